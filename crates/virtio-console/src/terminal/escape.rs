//! Keys that are for the program and not for the guest.

/// Ctrl-A begins an escape, as in QEMU and LKVM.
const PREFIX: u8 = 0x01;

/// What a byte typed turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// One for the guest.
    Guest(u8),
    /// Half an escape, or one that does not exist.
    Nothing,
    Quit,
    Status,
    Help,
}

/// Key after the prefix, what it stands for, what the help says. A new escape is a new line.
const ESCAPES: [(u8, Key, &str); 4] = [
    (b'x', Key::Quit, "Ctrl-A x       end the virtual machine"),
    (b's', Key::Status, "Ctrl-A s       how the virtual machine is doing"),
    (b'c', Key::Help, "Ctrl-A c       this help"),
    (PREFIX, Key::Guest(PREFIX), "Ctrl-A Ctrl-A  send Ctrl-A to the guest"),
];

/// Tells escapes from the guest's input.
#[derive(Debug, Default)]
pub(super) struct Escapes {
    prefixed: bool,
}

impl Escapes {
    pub(super) fn filter(&mut self, byte: u8) -> Key {
        if !std::mem::take(&mut self.prefixed) {
            self.prefixed = byte == PREFIX;
            return if self.prefixed { Key::Nothing } else { Key::Guest(byte) };
        }
        let escape = ESCAPES.iter().find(|(key, ..)| *key == byte);
        escape.map_or(Key::Nothing, |(_, key, _)| *key)
    }
}

/// One line an escape.
pub(super) fn help() -> String {
    ESCAPES.map(|(.., help)| format!("\n{help}")).concat() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut escapes = Escapes::default();
        let keys = bytes.iter().map(|byte| escapes.filter(*byte));
        keys.filter(|key| *key != Key::Nothing).collect()
    }

    #[test]
    fn ordinary_bytes_pass() {
        assert_eq!(keys(b"xc\x02"), [Key::Guest(b'x'), Key::Guest(b'c'), Key::Guest(2)]);
    }

    #[test]
    fn escapes_are_taken_out() {
        let typed = b"a\x01xb\x01c\x01\x01c\x01s";
        let (a, b, c) = (Key::Guest(b'a'), Key::Guest(b'b'), Key::Guest(b'c'));
        assert_eq!(keys(typed), [a, Key::Quit, b, Key::Help, Key::Guest(1), c, Key::Status]);
    }

    #[test]
    fn an_unknown_escape_vanishes_as_a_whole() {
        assert_eq!(keys(b"\x01zx"), [Key::Guest(b'x')]);
    }

    #[test]
    fn the_help_names_every_escape() {
        assert_eq!(help().lines().skip(1).count(), ESCAPES.len());
    }
}
