//! A real browser, used as somebody uses it who looks at the page: by what stands on buttons and beside fields.
//!
//! Whatever is looked for is waited for; it is found once it can be seen and used. What is never found ends the test with
//! what the page says, and with a picture of it. Pictures go to the directory that `HOOKSTREAM_TEST_SCREENSHOTS` names, else
//! to `screenshots` in cargo's target directory.
//!
//! Text is what is seen: without what is hidden, in the letters that the style sheet makes of it, with one space wherever
//! there is white space.

mod driver;

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::{panicking, sleep};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use xtask::node::TEST_AXE;

use crate::packages::package;
use driver::Driver;

const LOOK: &str = include_str!("browser/look.js");
/// How long something may take to be seen: a page asks services that ask Kafka, on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);
/// By this name WebDriver's JSON refers to an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// So much of a page's text is enough to see what is wrong.
const SHOWN: usize = 3_000;

/// A headless Chromium of a test's own, with a new profile. It ends when it is dropped.
#[derive(Debug)]
pub struct Browser {
    name: String,
    driver: Driver,
    patience: Duration,
    /// The failure is in a picture already.
    is_pictured: Cell<bool>,
}

/// Something in a page that keeps somebody from using it, as axe found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// `minor`, `moderate`, `serious` or `critical`.
    pub impact: String,
    pub rule: String,
    pub help: String,
    /// Where: CSS selectors.
    pub targets: Vec<String>,
}

/// How fast a page was there, in milliseconds since it was asked for, and how much of it came over the network.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Performance {
    pub first_contentful_paint_ms: f64,
    pub loaded_ms: f64,
    /// The page itself and whatever it loaded.
    pub requests: u64,
    /// With headers; what came from the cache counts nothing.
    pub transferred_bytes: u64,
}

impl Browser {
    /// Starts one, with a page of 1280 by 800; `name` is in the names of pictures.
    ///
    /// # Panics
    /// If it is not installed, or does not start.
    #[must_use]
    #[track_caller]
    pub fn start(name: &str) -> Self {
        let driver = Driver::start();
        let browser =
            Self { name: name.to_owned(), driver, patience: PATIENCE, is_pictured: Cell::new(false) };
        browser.resize(1280, 800);
        browser
    }

    /// Waits so long for what is looked for, and no longer.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Opens a page, and waits until it is loaded.
    #[track_caller]
    pub fn goto(&self, url: &str) {
        self.sure(&format!("`{url}` does not open"), self.driver.post("/url", &json!({ "url": url })));
    }

    #[must_use]
    #[track_caller]
    pub fn url(&self) -> String {
        text_of(&self.sure("no address", self.driver.get("/url")))
    }

    #[must_use]
    #[track_caller]
    pub fn title(&self) -> String {
        text_of(&self.sure("no title", self.driver.get("/title")))
    }

    /// The first element that a selector finds, to be handed to [`Self::exec`].
    #[track_caller]
    pub fn find(&self, css: &str) -> Value {
        self.with_element(&format!("`{css}`"), BY_CSS, &json!([css]), Ok)
    }

    /// The text of the first element that a selector finds.
    #[must_use]
    #[track_caller]
    pub fn text(&self, css: &str) -> String {
        let text = |element| self.look("tidy(arguments[0].innerText)", &json!([element]));
        text_of(&self.with_element(&format!("`{css}`"), BY_CSS, &json!([css]), text))
    }

    /// Clicks the first element that a selector finds.
    #[track_caller]
    pub fn click(&self, css: &str) {
        let find = "all(arguments[0]).find(isUsable)";
        self.with_element(&format!("`{css}`, to be clicked"), find, &json!([css]), |element| {
            self.to_element(&element, "click", &json!({}))
        });
    }

    /// Clicks the first link, button, tab or label that says exactly this.
    #[track_caller]
    pub fn click_text(&self, text: &str) {
        let what = format!("a link, button or label `{text}`, to be clicked");
        self.with_element(&what, "byText(arguments[0])", &json!([text]), |element| {
            self.to_element(&element, "click", &json!({}))
        });
    }

    /// Writes into the field with this label, instead of what stands there.
    #[track_caller]
    pub fn fill(&self, label: &str, value: &str) {
        // All of the text is selected (Control with A) and deleted, as somebody would.
        let keys = [CONTROL, "a", RELEASE, DELETE, value].concat();
        self.with_element(&format!("a field `{label}`"), BY_LABEL, &json!([label]), |element| {
            if self.look("setPicked(...arguments)", &json!([element, value]))? == true {
                return Ok(Value::Null);
            }
            self.to_element(&element, "value", &json!({ "text": keys }))
        });
    }

    /// What stands in the field with this label.
    #[must_use]
    #[track_caller]
    pub fn value(&self, label: &str) -> String {
        let value = |element| self.look("arguments[0].value", &json!([element]));
        text_of(&self.with_element(&format!("a field `{label}`"), BY_LABEL, &json!([label]), value))
    }

    /// Chooses the option that says this, in the list with this label.
    #[track_caller]
    pub fn choose(&self, label: &str, option: &str) {
        let find = "[...(byLabel(arguments[0])?.options ?? [])].find((option) => tidy(option.text) === arguments[1])";
        let what = format!("an option `{option}` in a list `{label}`");
        self.with_element(&what, find, &json!([label, option]), |element| {
            self.to_element(&element, "click", &json!({}))
        });
    }

    /// Presses keys together, wherever the focus is: `Enter`, `Shift+Tab`, `Control+k`.
    ///
    /// # Panics
    /// If a key is unknown.
    #[track_caller]
    pub fn press(&self, keys: &str) {
        let keys: Vec<&str> = keys.split('+').map(key).collect();
        let down = keys.iter().map(|key| json!({ "type": "keyDown", "value": key }));
        let up = keys.iter().rev().map(|key| json!({ "type": "keyUp", "value": key }));
        let actions: Vec<Value> = down.chain(up).collect();
        let keyboard = json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": actions }] });
        self.sure("no key can be pressed", self.driver.post("/actions", &keyboard));
    }

    /// Answers the page's question (`confirm`), and returns it.
    #[track_caller]
    pub fn answer(&self, is_yes: bool) -> String {
        let question = self.wait("a question of the page's", || self.driver.get("/alert/text"));
        let answer = if is_yes { "/alert/accept" } else { "/alert/dismiss" };
        self.sure("the question can't be answered", self.driver.post(answer, &json!({})));
        text_of(&question)
    }

    /// Waits until the page says this, among other things.
    #[track_caller]
    pub fn wait_for_text(&self, text: &str) {
        self.wait_until(&format!("the page says `{text}`"), || self.page_text().contains(text));
    }

    /// Waits until the page does not say this, if it does.
    #[track_caller]
    pub fn absent(&self, text: &str) {
        // Before the page has a body it says nothing, which proves nothing.
        self.wait_until(&format!("the page does not say `{text}`"), || {
            let says = self.page_text();
            !says.is_empty() && !says.contains(text)
        });
    }

    /// Waits until something holds that is seen in this browser.
    #[track_caller]
    pub fn wait_until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        self.wait(what, || condition().then_some(()).ok_or_else(String::new));
    }

    /// Runs a script in the page: what it returns; if that is a promise, what it is fulfilled with. Its arguments, a list,
    /// are in `arguments`.
    #[track_caller]
    pub fn exec(&self, script: &str, args: &Value) -> Value {
        self.sure("a script failed", self.driver.run(script, args))
    }

    /// Makes a picture of what is seen. A relative path is one in the directory of pictures.
    #[track_caller]
    pub fn screenshot(&self, path: impl AsRef<Path>) -> PathBuf {
        self.sure("no picture", self.try_screenshot(path.as_ref()))
    }

    /// Gives the page this size, in pixels.
    #[track_caller]
    pub fn resize(&self, width: u32, height: u32) {
        // Not the window's size, which includes what stands around the page, and can't be as small as a phone's.
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.sure("no other size", self.driver.devtools("Emulation.setDeviceMetricsOverride", &size));
    }

    /// Whether the user prefers dark pages.
    #[track_caller]
    pub fn set_dark(&self, is_dark: bool) {
        let scheme = if is_dark { "dark" } else { "light" };
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.sure("no other colours", self.driver.devtools("Emulation.setEmulatedMedia", &features));
    }

    /// The errors that came to the console since this was last asked: of scripts, of what could not be loaded (an answer
    /// of 4xx or 5xx too), of what the page's Content-Security-Policy forbids.
    #[must_use]
    #[track_caller]
    pub fn console_errors(&self) -> Vec<String> {
        self.sure("no console", self.try_console_errors())
    }

    /// What in the page breaks WCAG 2.2 at level AA, as far as axe can tell.
    #[must_use]
    #[track_caller]
    pub fn axe(&self) -> Vec<Violation> {
        let path = package(TEST_AXE);
        let axe = fs::read_to_string(&path).unwrap_or_else(|error| panic!("`{}`: {error}", path.display()));
        let tags = json!(["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]);
        let run = "return axe.run({ runOnly: arguments[0], resultTypes: ['violations'] }).then((it) => it.violations);";
        let found = self.exec(&format!("{axe};\n{run}"), &json!([tags]));
        let violation = |it: &Value| Violation {
            impact: text_of(&it["impact"]),
            rule: text_of(&it["id"]),
            help: text_of(&it["help"]),
            targets: list(&it["nodes"]).iter().flat_map(|node| list(&node["target"])).map(text_of).collect(),
        };
        list(&found).iter().map(violation).collect()
    }

    /// How fast the page was there, once it is.
    #[must_use]
    #[track_caller]
    pub fn performance(&self) -> Performance {
        self.wait("the page is loaded and painted", || {
            let seen = self.look("performanceOfPage()", &json!([]))?;
            serde_json::from_value(seen).map_err(|error| error.to_string())
        })
    }

    /// What an expression is, in the page, with what `look.js` has.
    fn look(&self, expression: &str, args: &Value) -> Result<Value, String> {
        self.driver.run(&format!("{LOOK}\nreturn {expression};"), args)
    }

    fn page_text(&self) -> String {
        // While another page is being loaded there may be none.
        self.look("pageText()", &json!([])).as_ref().map(text_of).unwrap_or_default()
    }

    /// Waits until an expression finds an element and something can be done with it.
    ///
    /// Both are tried again together: a page may replace an element just after it was found.
    #[track_caller]
    fn with_element(
        &self,
        what: &str,
        find: &str,
        args: &Value,
        act: impl Fn(Value) -> Result<Value, String>,
    ) -> Value {
        self.wait(what, || {
            let element = self.look(find, args)?;
            if element.is_null() { Err("there is none".to_owned()) } else { act(element) }
        })
    }

    fn to_element(&self, element: &Value, command: &str, body: &Value) -> Result<Value, String> {
        self.driver.post(&format!("/element/{}/{command}", text_of(&element[ELEMENT])), body)
    }

    /// Waits until something goes well. If it never does, the test fails with how it last went wrong.
    #[track_caller]
    fn wait<T>(&self, what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
        let started = Instant::now();
        loop {
            match look() {
                Ok(found) => return found,
                Err(error) if started.elapsed() >= self.patience => {
                    self.fail(&format!("not within {:?}: {what}", self.patience), &error)
                }
                Err(_) => sleep(POLL),
            }
        }
    }

    #[track_caller]
    fn sure<T>(&self, otherwise: &str, result: Result<T, String>) -> T {
        result.unwrap_or_else(|error| self.fail(otherwise, &error))
    }

    #[track_caller]
    fn fail(&self, what: &str, error: &str) -> ! {
        let url = self.driver.get("/url").as_ref().map(text_of).unwrap_or_default();
        let says: String = self.page_text().chars().take(SHOWN).collect();
        let console = self.try_console_errors().unwrap_or_default();
        panic!("{what}: {error}\n{url} says: {says}\nconsole: {console:#?}\n{}", self.picture_of_failure());
    }

    /// Makes a picture, and says where it is.
    fn picture_of_failure(&self) -> String {
        self.is_pictured.set(true);
        match self.try_screenshot(format!("{}-failed.png", self.name).as_ref()) {
            Ok(path) => format!("screenshot: {}", path.display()),
            Err(error) => format!("no screenshot: {error}"),
        }
    }

    fn try_screenshot(&self, path: &Path) -> Result<PathBuf, String> {
        let path = pictures().join(path);
        let png =
            STANDARD.decode(text_of(&self.driver.get("/screenshot")?)).map_err(|error| error.to_string())?;
        let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, png));
        written.map_err(|error| format!("`{}`: {error}", path.display()))?;
        Ok(path)
    }

    fn try_console_errors(&self) -> Result<Vec<String>, String> {
        let entries = self.driver.post("/se/log", &json!({ "type": "browser" }))?;
        let errors = list(&entries).iter().filter(|entry| entry["level"] == "SEVERE");
        Ok(errors.map(|entry| text_of(&entry["message"])).collect())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The test found fault with something that was found.
        if panicking() && !self.is_pictured.get() {
            eprintln!("{}", self.picture_of_failure());
        }
    }
}

const BY_CSS: &str = "all(arguments[0]).find(isSeen)";
const BY_LABEL: &str = "byLabel(arguments[0])";

// Keys without a letter, as WebDriver numbers them.
const RELEASE: &str = "\u{e000}";
const CONTROL: &str = "\u{e009}";
const DELETE: &str = "\u{e017}";

/// WebDriver's name of a key.
#[track_caller]
fn key(name: &str) -> &str {
    match name {
        "Backspace" => "\u{e003}",
        "Tab" => "\u{e004}",
        "Enter" => "\u{e007}",
        "Shift" => "\u{e008}",
        "Control" => CONTROL,
        "Alt" => "\u{e00a}",
        "Escape" => "\u{e00c}",
        "Space" => " ",
        "PageUp" => "\u{e00e}",
        "PageDown" => "\u{e00f}",
        "End" => "\u{e010}",
        "Home" => "\u{e011}",
        "Left" => "\u{e012}",
        "Up" => "\u{e013}",
        "Right" => "\u{e014}",
        "Down" => "\u{e015}",
        "Delete" => DELETE,
        letter if letter.chars().count() == 1 => letter,
        _ => panic!("no key `{name}`"),
    }
}

/// The directory of pictures.
fn pictures() -> PathBuf {
    std::env::var_os("HOOKSTREAM_TEST_SCREENSHOTS").map(PathBuf::from).unwrap_or_else(|| {
        let test = std::env::current_exe().expect("a process knows its program");
        // target/<profile>/deps/<test>
        test.ancestors().nth(3).expect("cargo puts tests two levels deep").join("screenshots")
    })
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
