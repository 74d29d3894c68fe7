//! The console's own guards; its pages are tested in a browser.
