//! Bytes of the console device's specification (VIRTIO 1.4 §5.3).

/// Index of the queue that brings the guest what the person typed (§5.3.2, port 0).
pub(crate) const RECEIVE: u16 = 0;
/// Index of the queue that takes what the guest prints (§5.3.2, port 0).
pub(crate) const TRANSMIT: u16 = 1;

/// `VIRTIO_CONSOLE_F_SIZE`: the configuration has a window size (§5.3.3). virtio-bindings has no console.
pub(crate) const F_SIZE: u32 = 0;

/// Bytes of the configuration: columns, rows, number of ports, emergency write (§5.3.4).
const CONFIG_LEN: usize = 12;

/// Size of a terminal's window in characters; 0 × 0 when nobody knows it, as terminals have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowSize {
    /// Characters in a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

impl WindowSize {
    /// The two fields as the configuration begins with them.
    pub(crate) fn to_bytes(self) -> [u8; 4] {
        let ([a, b], [c, d]) = (self.columns.to_le_bytes(), self.rows.to_le_bytes());
        [a, b, c, d]
    }

    /// The configuration of a console with one port and no emergency write.
    pub(crate) fn to_config(self) -> [u8; CONFIG_LEN] {
        let mut config = [0; CONFIG_LEN];
        config[..4].copy_from_slice(&self.to_bytes());
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_come_first_little_endian() {
        let size = WindowSize { columns: 0x0102, rows: 0x0304 };
        assert_eq!(size.to_config(), [2, 1, 4, 3, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
}
