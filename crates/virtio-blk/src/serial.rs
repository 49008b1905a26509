//! A disk's serial number.

use std::path::Path;
use std::str::FromStr;

use virtio_bindings::virtio_blk::VIRTIO_BLK_ID_BYTES;

const SIZE: usize = VIRTIO_BLK_ID_BYTES as usize;

/// The name by which a guest tells its disks apart (VIRTIO 1.4 §5.2.6, VIRTIO_BLK_T_GET_ID): up to 20
/// visible ASCII characters. Linux shows it as `/sys/block/vda/serial`.
///
/// ```
/// use cubie_virtio_blk::Serial;
///
/// let given: Serial = "root".parse()?;
/// assert_eq!(given, Serial::of_file("/images/root".as_ref()));
/// # Ok::<(), cubie_virtio_blk::SerialError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serial([u8; SIZE]);

/// A serial number that cannot be.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SerialError {
    /// More than the standard has room for.
    #[error("«{0}» is too long for a serial number: at most {SIZE} characters")]
    TooLong(String),
    /// Something that a guest could not show.
    #[error("«{0}» is no serial number: only visible ASCII characters, no spaces")]
    Invisible(String),
}

impl Serial {
    /// Made from the name of the disk's file: its first 20 characters, with `-` for what cannot be part
    /// of a serial number.
    pub fn of_file(path: &Path) -> Self {
        let name = path.file_name().unwrap_or(path.as_os_str());
        let mut bytes = [0; SIZE];
        for (byte, character) in bytes.iter_mut().zip(name.to_string_lossy().chars()) {
            *byte = if character.is_ascii_graphic() { character as u8 } else { b'-' };
        }
        Self(bytes)
    }

    /// As the driver gets it: padded with zeros.
    pub(crate) fn bytes(&self) -> &[u8; SIZE] {
        &self.0
    }
}

impl FromStr for Serial {
    type Err = SerialError;

    fn from_str(given: &str) -> Result<Self, SerialError> {
        if !given.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(SerialError::Invisible(given.into()));
        }
        let mut bytes = [0; SIZE];
        let room = bytes.get_mut(..given.len());
        let room = room.ok_or_else(|| SerialError::TooLong(given.into()))?;
        room.copy_from_slice(given.as_bytes());
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_has_up_to_twenty_visible_characters() {
        assert_eq!("12345678901234567890".parse::<Serial>().unwrap().0, *b"12345678901234567890");
        let long = "123456789012345678901".parse::<Serial>().unwrap_err();
        assert!(long.to_string().ends_with("at most 20 characters"), "{long}");
        for bad in ["a b", "ä", "\0"] {
            assert_eq!(bad.parse::<Serial>(), Err(SerialError::Invisible(bad.into())));
        }
    }

    #[test]
    fn a_file_name_makes_a_serial_whatever_it_is() {
        let of = |path: &str| String::from_utf8(Serial::of_file(path.as_ref()).0.into()).unwrap();
        assert_eq!(of("/a/my disk ä.img").trim_end_matches('\0'), "my-disk--.img");
        assert_eq!(of("/a/123456789012345678901"), "12345678901234567890");
        assert_eq!(of("/").trim_end_matches('\0'), "/");
    }
}
