//! Every rule in docs/conformance.md has an answer, and every test named there exists.

use std::collections::HashSet;
use std::fmt;
use std::fs;

use anyhow::{Context, bail};

use crate::shell::root;

const PAGE: &str = "docs/conformance.md";

/// What the page's rows may say when they name no test. Reasons follow.
const MET: &str = "met, no test";
const NOT_MET: &str = "not met, because ";
const NOT_HERE: &str = "does not apply: ";

/// How the rules are answered.
#[derive(Debug, Default, PartialEq, Eq)]
struct Answers {
    shown: usize,
    met: usize,
    not_met: usize,
    not_here: usize,
}

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shown, met, not_met, not_here } = self;
        let all = shown + met + not_met + not_here;
        write!(
            f,
            "{all} rules: {shown} shown by tests, {met} met without, {not_met} not met, {not_here} not applying"
        )
    }
}

pub(crate) fn check() -> anyhow::Result<()> {
    let page = fs::read_to_string(root().join(PAGE)).context(PAGE)?;
    match read(&page, |file| fs::read_to_string(root().join(file)).ok()) {
        Ok(answers) => eprintln!("== conformance: ok, {answers}"),
        Err(wrong) => bail!("{PAGE} must be mended:\n{}", wrong.join("\n")),
    }
    Ok(())
}

/// Counts the answers of `page`, or says what is wrong, a line each. `source` is a file's text, if there
/// is such a file.
fn read(page: &str, source: impl Fn(&str) -> Option<String>) -> Result<Answers, Vec<String>> {
    let (mut answers, mut numbers, mut wrong) = (Answers::default(), HashSet::new(), vec![]);
    for (line, text) in (1..).zip(page.lines()) {
        let mut complain = |what: String| wrong.push(format!("  line {line}: {what}"));
        let Some(cells) = row(text) else { continue };
        let [number, _rule, answer] = cells[..] else {
            complain(format!("{} cells instead of number, rule and test", cells.len()));
            continue;
        };
        if !is_number(number) {
            complain(format!("«{number}» is no rule's number, such as ring-07"));
        } else if !numbers.insert(number) {
            complain(format!("{number} is there twice"));
        }
        match count(answer, &mut answers, &source) {
            Ok(()) => {}
            Err(what) => complain(format!("{number}: {what}")),
        }
    }
    if numbers.is_empty() {
        wrong.push("  no rules".to_owned());
    }
    if wrong.is_empty() { Ok(answers) } else { Err(wrong) }
}

/// The cells of a table's row, but for a table's head.
fn row(line: &str) -> Option<Vec<&str>> {
    let inner = line.trim().strip_prefix('|')?;
    let cells: Vec<_> =
        inner.strip_suffix('|').unwrap_or(inner).split('|').map(str::trim).collect();
    let is_head = cells == ["no.", "rule", "test"];
    let is_line = cells.iter().all(|cell| !cell.is_empty() && cell.chars().all(|c| c == '-'));
    (!is_head && !is_line).then_some(cells)
}

/// A word, a hyphen and two digits.
fn is_number(cell: &str) -> bool {
    cell.split_once('-').is_some_and(|(word, digits)| {
        let lower = |c: char| c.is_ascii_lowercase();
        !word.is_empty()
            && word.chars().all(lower)
            && digits.len() == 2
            && digits.chars().all(|c| c.is_ascii_digit())
    })
}

/// Adds a row's answer to `answers`.
fn count(
    answer: &str,
    answers: &mut Answers,
    source: &impl Fn(&str) -> Option<String>,
) -> Result<(), String> {
    let gives_reason = |start| answer.strip_prefix(start).is_some_and(|why: &str| !why.is_empty());
    if answer.is_empty() {
        return Err("says nothing about tests".to_owned());
    } else if answer.starts_with(MET) {
        answers.met += 1;
    } else if gives_reason(NOT_MET) {
        answers.not_met += 1;
    } else if gives_reason(NOT_HERE) {
        answers.not_here += 1;
    } else {
        names(answer, source)?;
        answers.shown += 1;
    }
    Ok(())
}

/// All of a cell must be tests that exist: "`file: name`", one or more.
fn names(answer: &str, source: &impl Fn(&str) -> Option<String>) -> Result<(), String> {
    for test in answer.split(", ") {
        let name = test.strip_prefix('`').and_then(|rest| rest.strip_suffix('`'));
        let Some((file, name)) = name.and_then(|name| name.split_once(": ")) else {
            return Err(format!(
                "«{test}» is neither `file: test` nor «{MET}», «{NOT_MET}…» or «{NOT_HERE}…»"
            ));
        };
        let text = source(file).ok_or_else(|| format!("there is no file {file}"))?;
        if !has_test(&text, name) {
            return Err(format!("{file} has no test {name}"));
        }
    }
    Ok(())
}

/// True if there is a function of this name with a test attribute, be it inside of `proptest!`.
fn has_test(source: &str, name: &str) -> bool {
    let lines: Vec<_> = source.lines().map(str::trim).collect();
    let head = format!("fn {name}(");
    let functions = (0..lines.len()).filter(|&at| lines[at].starts_with(&head));
    functions.into_iter().any(|at| {
        // Attributes and comments in front of it, up to what comes before them.
        let front = lines[..at].iter().rev();
        let mut front =
            front.take_while(|line| !line.is_empty() && !line.ends_with(['{', '}', ';']));
        front.any(|line| *line == "#[test]")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "
        fn helper() {}
        #[test]
        fn shows_it() {}

        proptest! {
            #![proptest_config(cases())]
            #[test]
            #[cfg_attr(miri, ignore = \"slow\")]
            // Why.
            fn shows_it_often(x in 0..4) {}
        }
        // #[test]
        fn was_a_test() {}
    ";

    fn source(file: &str) -> Option<String> {
        (file == "a.rs").then(|| SOURCE.to_owned())
    }

    /// A page whose table has these rows.
    fn page(rows: &[&str]) -> String {
        format!("# Page\n| no. | rule | test |\n|---|---|---|\n{}\nWords.\n", rows.join("\n"))
    }

    #[test]
    fn a_good_page_is_counted() {
        let good = page(&[
            "| ring-01 | a | `a.rs: shows_it` |",
            "| ring-02 | b | `a.rs: shows_it_often`, `a.rs: shows_it` |",
            "| ring-03 | c | met, no test: it is a type |",
            "| mmio-01 | d | not met, because of reasons |",
            "| mmio-02 | e | does not apply: not offered |",
        ]);
        let answers = read(&good, source).unwrap();
        assert_eq!(answers, Answers { shown: 2, met: 1, not_met: 1, not_here: 1 });
        let said = "5 rules: 2 shown by tests, 1 met without, 1 not met, 1 not applying";
        assert_eq!(answers.to_string(), said);
    }

    #[test]
    fn each_fault_of_a_page_is_told() {
        for (row, fault) in [
            ("| ring-02 | b | |", "ring-02: says nothing about tests"),
            ("| ring-01 | b | `a.rs: shows_it` |", "ring-01 is there twice"),
            ("| ring-02 | b | `a.rs: gone` |", "ring-02: a.rs has no test gone"),
            ("| ring-02 | b | `a.rs: shows` |", "ring-02: a.rs has no test shows"),
            ("| ring-02 | b | `a.rs: helper` |", "ring-02: a.rs has no test helper"),
            ("| ring-02 | b | `a.rs: was_a_test` |", "ring-02: a.rs has no test was_a_test"),
            ("| ring-02 | b | `b.rs: shows_it` |", "ring-02: there is no file b.rs"),
            ("| ring-02 | b | `a.rs: shows_it`, `a.rs: gone` |", "ring-02: a.rs has no test gone"),
            ("| ring-02 | b | surely |", "ring-02: «surely» is neither"),
            ("| ring-02 | b | not met |", "ring-02: «not met» is neither"),
            ("| ring-2 | b | met, no test |", "«ring-2» is no rule's number"),
            ("| ring-02 | b |", "2 cells instead of number, rule and test"),
        ] {
            let wrong = read(&page(&["| ring-01 | a | met, no test |", row]), source).unwrap_err();
            let [only] = &wrong[..] else { panic!("{row}: {wrong:?}") };
            assert!(only.starts_with(&format!("  line 5: {fault}")), "{row}: {only}");
        }
        assert_eq!(read(&page(&[]), source), Err(vec!["  no rules".to_owned()]));
    }

    #[test]
    fn the_page_of_this_workspace_is_good() {
        check().unwrap();
    }
}
