//! The harness itself: what it does in a browser is what somebody would do there, and what is wrong with a page it says.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use hookstream_e2e::{Answer, Browser, Receiver, SOON, wait_until};
use serde_json::json;

/// Serves `body` at `/`, under a policy as strict as a good page's, with this script.
fn site(body: &str, script: &str) -> Receiver {
    let site = Receiver::start();
    let page = format!(
        "<!doctype html><html lang=en><head><title>A page</title><link rel=icon href=data:,>\
         <link rel=stylesheet href=/page.css><script src=/page.js defer></script></head>\
         <body><main><h1>A page</h1>{body}</main></body></html>"
    );
    let answer = |kind: &str, body: &str| {
        let policy = "default-src 'self'; img-src 'self' data:";
        let answer = Answer::status(200).header("content-type", kind);
        answer.header("content-security-policy", policy).body(body.to_owned())
    };
    site.on("/", answer("text/html; charset=utf-8", &page));
    site.on("/page.js", answer("text/javascript", script));
    let style = "@media (prefers-color-scheme: dark) { body { background: #000; color: #fff } }";
    site.on("/page.css", answer("text/css", style));
    site
}

fn open(name: &str, site: &Receiver) -> Browser {
    let browser = Browser::start(name);
    browser.goto(&site.url("/"));
    browser
}

const FORM: &str = "<form>\
    <p><label for=name>Name <span aria-hidden=true>*</span></label> <input id=name value=before>\
    <p><label>Region <select><option value=e>Europe<option value=a>Asia</select></label>\
    <p><textarea aria-label=Notes></textarea>\
    <p><label for=from>From</label> <input id=from type=date>\
    <p><label for=all>All events</label> <input id=all type=checkbox>\
    <p><button id=save>Save</button> <button type=button id=delete>Delete</button>\
    </form><output></output>";

/// The answer comes late, as a server's does, and in place of the form.
const FORM_SCRIPT: &str = "
    const value = (css) => document.querySelector(css).value;
    const say = (text) => setTimeout(() => document.querySelector('output').textContent = text, 200);
    document.querySelector('form').addEventListener('submit', (event) => {
        event.preventDefault();
        const checked = document.querySelector('#all').checked;
        say(['saved', value('#name'), value('select'), value('textarea'), value('#from'), checked].join(' / '));
        setTimeout(() => event.target.remove(), 100);
    });
    document.querySelector('#delete').addEventListener('click', () => say(confirm('Really?') ? 'deleted' : 'kept'));";

#[test]
fn a_form_is_filled_in_and_sent() {
    let site = site(FORM, FORM_SCRIPT);
    let browser = open("form", &site);
    assert_eq!((browser.title().as_str(), browser.url()), ("A page", site.url("/")));
    assert_eq!(browser.text("h1"), "A page");

    browser.click_text("Delete");
    assert_eq!(browser.answer(false), "Really?");
    browser.wait_for_text("kept");
    browser.click("#delete");
    browser.answer(true);
    browser.wait_for_text("deleted");

    browser.fill("Notes", "two\nlines, ünd \"more\"");
    browser.fill("Name", "after");
    assert_eq!(browser.value("Name"), "after");
    browser.choose("Region", "Asia");
    browser.fill("From", "2026-03-01");
    browser.click_text("All events");
    browser.click_text("Save");
    browser.wait_for_text("saved / after / a / two lines, ünd \"more\" / 2026-03-01 / true");
    browser.absent("Region");
    assert_eq!(browser.console_errors(), [""; 0]);
}

#[test]
fn keys_go_where_the_focus_is() {
    let site = site("<input aria-label=Search>", "");
    let browser = open("keys", &site);
    browser.press("Tab");
    for key in ["a", "b", "Shift+c", "Left", "Backspace", "Control+a"] {
        browser.press(key);
    }
    assert_eq!(browser.value("Search"), "aC");
    let selected = browser.exec("return arguments[0].selectionEnd", &json!([browser.find("input")]));
    assert_eq!(selected, 2);
}

#[test]
fn while_a_dialog_is_open_only_it_is_used() {
    let body = "<button id=open>Open</button><p id=said></p>\
        <dialog aria-label=Question><p>Sure?</p><form method=dialog><button>Open</button></form></dialog>";
    let script = "
        const dialog = document.querySelector('dialog');
        document.querySelector('#open').onclick = () => dialog.showModal();
        dialog.onclose = () => document.querySelector('#said').textContent = 'closed';";
    let site = site(body, script);
    let browser = open("dialog", &site);
    browser.absent("Sure?");
    browser.click_text("Open");
    browser.wait_for_text("Sure?");
    browser.click_text("Open");
    browser.wait_for_text("closed");
}

#[test]
fn errors_in_the_console_are_seen_once() {
    let site = site("<img src=/missing.png alt=none>", "nobody.knows();");
    site.on("/missing.png", Answer::status(404));
    let browser = open("console", &site);
    let mut errors = Vec::new();
    let mut has = |wanted: &str| {
        wait_until(&format!("the console says `{wanted}`"), SOON, || {
            errors.extend(browser.console_errors());
            errors.iter().any(|error| error.contains(wanted))
        });
    };
    has("nobody is not defined");
    has("404");
    browser.exec("document.body.setAttribute('style', 'color: red')", &json!([]));
    has("Content Security Policy");
    // Nothing but this machine can be reached.
    browser.exec(
        "const image = new Image(); image.src = '//example.com/a.png'; document.body.append(image);",
        &json!([]),
    );
    has("example.com");
    assert_eq!(browser.console_errors(), [""; 0]);
}

#[test]
fn axe_finds_what_is_wrong() {
    let clean = site(FORM, "");
    let browser = open("axe", &clean);
    assert_eq!(browser.axe(), []);

    let seeded =
        site("<img src='data:image/gif;base64,R0lGODlhAQABAAAAACw=' id=picture><input id=nameless>", "");
    browser.goto(&seeded.url("/"));
    let mut found = browser.axe();
    found.sort_by(|a, b| a.rule.cmp(&b.rule));
    let rules: Vec<_> =
        found.iter().map(|it| (it.rule.as_str(), it.impact.as_str(), it.targets.join(" "))).collect();
    let wanted = [("image-alt", "critical", "#picture"), ("label", "critical", "#nameless")];
    assert_eq!(rules, wanted.map(|(rule, impact, target)| (rule, impact, target.to_owned())));
    assert!(found.iter().all(|it| !it.help.is_empty()), "{found:?}");
    assert_eq!(browser.console_errors(), [""; 0]);
}

/// A PNG begins with its size.
fn size_of(png: &Path) -> (u32, u32) {
    let bytes = std::fs::read(png).expect("a picture was written");
    assert!(bytes.starts_with(b"\x89PNG\r\n\x1a\n"), "{} is no PNG", png.display());
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    (number(16), number(20))
}

#[test]
fn pictures_have_the_size_and_the_colours_that_are_asked_for() {
    let site = site("", "");
    let browser = open("pictures", &site);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let picture = |name: &str| browser.screenshot(dir.path().join(name));
    assert_eq!(size_of(&picture("usual.png")), (1280, 800));
    browser.resize(360, 640);
    assert_eq!(size_of(&picture("phone.png")), (360, 640));
    assert_eq!(browser.exec("return [innerWidth, innerHeight]", &json!([])), json!([360, 640]));

    let background = || browser.exec("return getComputedStyle(document.body).backgroundColor", &json!([]));
    assert_eq!(background(), "rgba(0, 0, 0, 0)");
    browser.set_dark(true);
    assert_eq!(background(), "rgb(0, 0, 0)");
    // It is the user's wish, not the page's.
    browser.goto(&site.url("/"));
    assert_eq!(background(), "rgb(0, 0, 0)");
    browser.set_dark(false);
    assert_eq!(background(), "rgba(0, 0, 0, 0)");
}

#[test]
fn what_a_page_costs_is_measured() {
    let script = format!("// {}", "x".repeat(100_000));
    let site = site("", &script);
    let browser = open("performance", &site);
    let cost = browser.performance();
    // The page, its script and its style sheet.
    assert_eq!(cost.requests, 3, "{cost:?}");
    assert!((100_000..110_000).contains(&cost.transferred_bytes), "{cost:?}");
    assert!(cost.first_contentful_paint_ms > 0.0 && cost.loaded_ms > 0.0, "{cost:?}");
}

#[test]
fn what_is_not_found_is_explained() {
    let site = site("<button disabled>Save</button><button hidden>Later</button>", "");
    let browser = open("explained", &site).with_patience(Duration::from_millis(500));
    let panic = catch_unwind(AssertUnwindSafe(|| browser.exec("return nobody", &json!([]))));
    let message = panic.expect_err("there is no such name").downcast::<String>().expect("a message");
    for part in ["nobody is not defined", &site.url("/"), "says: A page", "explained-failed.png"] {
        assert!(message.contains(part), "no `{part}` in: {message}");
    }
    let (_, picture) = message.split_once("screenshot: ").expect("a picture");
    assert_eq!(size_of(Path::new(picture)), (1280, 800));
    // Neither can be clicked by anybody.
    for text in ["Save", "Later"] {
        let click = || browser.click_text(text);
        let panic = catch_unwind(AssertUnwindSafe(click)).expect_err("nothing to click");
        let message = panic.downcast::<String>().expect("a message");
        assert!(message.contains(&format!("`{text}`")) && message.contains("there is none"), "{message}");
    }
}
