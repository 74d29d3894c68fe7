//! What the tests of this module share.

/// Bytes that repeat, other ones for each seed and each call.
pub(super) fn filler(seed: u8) -> impl FnMut(&mut [u8]) {
    let mut next = seed.wrapping_mul(37);
    move |bytes| {
        for byte in bytes {
            next = next.wrapping_mul(181).wrapping_add(seed | 1);
            *byte = next;
        }
    }
}
