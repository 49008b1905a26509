//! Options of captures, which all cards take.

use std::path::PathBuf;

/// A file that all frames are written to: `pcap=FILE[,snaplen=BYTES]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaptureOption {
    /// The file.
    pub path: PathBuf,
    /// Bytes of each frame that are kept at most; 0 keeps all.
    pub snap_len: u32,
}

impl CaptureOption {
    /// Takes an option over, if it is one of captures.
    pub(super) fn set(
        capture: &mut Option<Self>,
        key: &str,
        value: Option<&str>,
    ) -> Result<bool, String> {
        match (key, value) {
            ("pcap", None | Some("")) => return Err("pcap: give a FILE".into()),
            ("pcap", Some(path)) => capture.get_or_insert_default().path = path.into(),
            ("snaplen", Some(bytes)) => {
                let bytes = bytes.parse().ok().filter(|bytes| *bytes > 0);
                capture.get_or_insert_default().snap_len =
                    bytes.ok_or("snaplen: give the bytes of each frame to keep, such as 128")?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Whether what was taken over makes sense as a whole.
    pub(super) fn check(&self) -> Result<(), String> {
        match self.path.as_os_str().is_empty() {
            true => Err("snaplen is for captures: give pcap=FILE as well".into()),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::lkvm::NetworkOption;

    #[test]
    fn all_modes_can_be_captured() {
        for mode in ["user", "tap", "null"] {
            let text = format!("pcap=a.pcapng,mode={mode},snaplen=96");
            let capture = text.parse::<NetworkOption>().unwrap().capture.unwrap();
            assert_eq!((capture.path.as_os_str(), capture.snap_len), ("a.pcapng".as_ref(), 96));
        }
        assert_eq!("mode=user".parse::<NetworkOption>().unwrap().capture, None);
    }

    #[test]
    fn half_a_capture_is_refused() {
        for (options, word) in [
            ("pcap=", "give a FILE"),
            ("pcap", "give a FILE"),
            ("snaplen=96", "pcap=FILE as well"),
            ("pcap=a,snaplen=0", "such as 128"),
            ("pcap=a,snaplen=many", "such as 128"),
        ] {
            let error = format!("mode=user,{options}").parse::<NetworkOption>().unwrap_err();
            assert!(error.contains(word), "{options}: {error}");
        }
        for text in ["mode=tap,vhost=1,pcap=a", "pcap=a,mode=tap,vhost=1"] {
            let error = text.parse::<NetworkOption>().unwrap_err();
            assert!(error.contains("vhost=1") && error.contains("pcap"), "{error}");
        }
    }
}
