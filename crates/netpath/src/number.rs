//! Numbers for people.

/// With a comma between thousands.
pub(crate) fn whole(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Nanoseconds in a unit that suits them.
pub(crate) fn time(nanos: f64) -> String {
    match nanos {
        ..1e3 => format!("{nanos:.0} ns"),
        ..1e6 => format!("{:.1} µs", nanos / 1e3),
        ..1e9 => format!("{:.1} ms", nanos / 1e6),
        _ => format!("{:.1} s", nanos / 1e9),
    }
}

/// How many come to one; `None` where there is none.
pub(crate) fn each(many: u64, of: u64) -> Option<f64> {
    (of > 0).then(|| many as f64 / of as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!([0, 999, 1000, 1_234_567].map(whole), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [0.4, 999.0, 1500.0, 2.5e6, 3e9].map(time),
            ["0 ns", "999 ns", "1.5 µs", "2.5 ms", "3.0 s"]
        );
        assert_eq!((each(1, 2), each(1, 0)), (Some(0.5), None));
    }
}
