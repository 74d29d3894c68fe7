//! Which names are somebody's internal ones, and which ports are not the web's.

/// Names that no public host has: special uses (RFC 6761, RFC 6762, RFC 7686, RFC 8375, RFC 9476), what ICANN keeps out of
/// the public root for private use, and what orchestrators call their own. Lower case, without a leading dot.
const INTERNAL: &[&str] = &[
    "alt",
    "arpa",
    "consul",
    "corp",
    "docker",
    "home",
    "internal",
    "intranet",
    "invalid",
    "lan",
    "local",
    "localdomain",
    "localhost",
    "mail",
    "onion",
    "private",
    "svc",
    "test",
    "workgroup",
];

/// Ports whose services a request could be smuggled into, or that administer machines: those that browsers refuse (Fetch
/// standard, "bad port"), and those of databases, brokers and orchestrators. Sorted.
pub(super) const DENIED_PORTS: &[u16] = &[
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103,
    104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 138, 139, 143, 161, 162, 179, 389, 427, 445, 465,
    502, 512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 623, 631, 636, 873, 989,
    990, 992, 993, 995, 1080, 1099, 1433, 1434, 1521, 1719, 1720, 1723, 1883, 2049, 2181, 2375, 2376, 2377,
    2379, 2380, 3128, 3268, 3269, 3306, 3389, 3632, 3659, 4045, 4190, 4222, 5060, 5061, 5432, 5433, 5672,
    5900, 5984, 5985, 5986, 6000, 6379, 6380, 6443, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 7199,
    8086, 8125, 8500, 8501, 9042, 9092, 9093, 9094, 9160, 9200, 9300, 10080, 10250, 10255, 10256, 10257,
    10259, 11211, 11434, 15672, 16379, 26379, 27017, 27018, 27019, 50070, 61616,
];

/// Whether a name, in lower case, is one of internal networks: a single label, or below a name that is not public.
pub(super) fn is_internal(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    !name.contains('.') || INTERNAL.iter().any(|internal| is_at_or_below(name, internal))
}

/// Whether `name` is `top`, or ends with `.` and `top`.
pub(super) fn is_at_or_below(name: &str, top: &str) -> bool {
    name.strip_suffix(top).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// RFC 1035 §2.3.4.
pub(super) fn check_length(name: &str) -> Result<(), &'static str> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() || name.len() > 253 {
        return Err("must have a host of 1 to 253 characters");
    }
    if name.split('.').any(|label| label.is_empty() || label.len() > 63) {
        return Err("must have 1 to 63 characters between the dots of its host");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_are_sorted() {
        assert!(DENIED_PORTS.is_sorted());
    }

    #[test]
    fn below() {
        for (name, top) in [("a.svc", "svc"), ("svc", "svc"), ("a.b.cluster.local", "cluster.local")] {
            assert!(is_at_or_below(name, top) && is_internal(name), "{name}");
        }
        for name in ["mysvc.example.com", "local.example", "notlocal.co", "home.arpa.example"] {
            assert!(!is_internal(name), "{name}");
        }
        assert!(is_internal("localhost.") && is_internal("router.home.arpa."));
    }
}
