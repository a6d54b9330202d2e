//! What the promises name exists: a guarantee whose test was renamed or removed is found here.

use crate::none;
use crate::tree::{files, top};

/// The texts that name tests.
const PROMISES: &[&str] = &["host/GUARANTEES.md", "host/METRICS.md"];
/// Underscores from which on a word in backticks is the name of a test: they are sentences.
const SENTENCE: usize = 3;

/// The words in backticks, with their lines.
fn quoted(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().flat_map(|(index, line)| {
        line.split('`').skip(1).step_by(2).map(move |word| (index + 1, word))
    })
}

/// Whether a word in backticks is the name of a test; metrics have a prefix of their own.
fn is_test(word: &str) -> bool {
    let plain = word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    plain && word.matches('_').count() >= SENTENCE && !word.starts_with("zepto_")
}

fn is_place(word: &str) -> bool {
    ["host/", "tests/", "plugins/", "abi/"].iter().any(|start| word.starts_with(start))
}

/// Names of tests that `exists` does not know.
fn missing(text: &str, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let absent = quoted(text).filter(|(_, word)| is_test(word) && !exists(word));
    absent.map(|(line, word)| format!("{line}: there is no test `{word}`")).collect()
}

#[test]
fn every_test_and_place_that_a_promise_names_exists() {
    let files = files();
    let sources: Vec<&str> =
        files.iter().filter(|file| file.is_rust()).map(|file| file.text.as_str()).collect();
    let exists = |name: &str| {
        let head = format!("fn {name}(");
        sources.iter().any(|text| text.contains(&head))
    };
    let mut violations = Vec::new();
    for path in PROMISES {
        let file = files.iter().find(|file| file.path == *path);
        let text = &file.unwrap_or_else(|| panic!("there is no {path}")).text;
        violations.extend(missing(text, exists).iter().map(|found| format!("{path}:{found}")));
        let places = quoted(text).filter(|(_, word)| is_place(word));
        let absent = places.filter(|(_, place)| !top().join(place).exists());
        violations.extend(absent.map(|(line, place)| format!("{path}:{line}: no {place}")));
    }
    none(&violations);
}

#[test]
fn a_promise_whose_test_is_gone_is_a_violation() {
    let text = "| a | `it_is_there_still` |\n| b | `it_is_there_no_more`, `zepto_a_b_c_total` |";
    let found = missing(text, |name| name == "it_is_there_still");
    assert_eq!(found, ["2: there is no test `it_is_there_no_more`"]);
    assert!(is_place("host/core") && !is_place("two words"));
}
