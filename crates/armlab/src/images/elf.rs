//! Just enough ELF to find a section by its name, in 32- and 64-bit little-endian objects.

/// The bytes of the section `name`; `None` when `file` is no such object or has no such section.
pub(super) fn section<'a>(file: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let wide = match file.get(..6)? {
        b"\x7fELF\x01\x01" => false,
        b"\x7fELF\x02\x01" => true,
        _ => return None,
    };
    // e_shoff, e_shentsize, e_shnum, e_shstrndx (System V ABI, «ELF Header»)
    let table = word(file, if wide { 0x28 } else { 0x20 }, wide)?;
    let counts = if wide { 0x3a } else { 0x2e };
    let [size, count, names] = [0, 2, 4].map(|offset| half(file, counts + offset));
    let (size, count) = (size?, count?);
    let header = |index: usize| file.get(table.checked_add(index.checked_mul(size)?)?..);
    let content = |header: &[u8]| {
        // sh_offset, sh_size
        let at = if wide { [0x18, 0x20] } else { [0x10, 0x14] };
        let start = word(header, at[0], wide)?;
        file.get(start..start.checked_add(word(header, at[1], wide)?)?)
    };
    let names = content(header(names?)?)?;
    let wanted = (0..count).filter_map(header).find(|header| {
        let start = word(header, 0, false).and_then(|offset| names.get(offset..));
        start.and_then(|start| start.split(|&byte| byte == 0).next()) == Some(name.as_bytes())
    })?;
    content(wanted)
}

fn half(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(usize::from(u16::from_le_bytes(*bytes)))
}

/// A field of four bytes, or of eight where the object is `wide`.
fn word(bytes: &[u8], at: usize, wide: bool) -> Option<usize> {
    let bytes = bytes.get(at..)?;
    if wide {
        usize::try_from(u64::from_le_bytes(*bytes.first_chunk()?)).ok()
    } else {
        usize::try_from(u32::from_le_bytes(*bytes.first_chunk()?)).ok()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A 64-bit object with two sections: `name` and the section names.
    pub(in super::super) fn with_section(name: &str, content: &[u8]) -> Vec<u8> {
        let names = format!("\0{name}\0");
        let (content_at, names_at) = (0x40, 0x40 + content.len());
        let table_at = names_at + names.len();
        let mut file = vec![0; 0x40];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[0x28..0x30].copy_from_slice(&(table_at as u64).to_le_bytes());
        file[0x3a..0x40].copy_from_slice(&[64, 0, 2, 0, 1, 0]);
        file.extend_from_slice(content);
        file.extend_from_slice(names.as_bytes());
        for (name, at, size) in [(1u32, content_at, content.len()), (0, names_at, names.len())] {
            let mut header = [0; 64];
            header[..4].copy_from_slice(&name.to_le_bytes());
            header[0x18..0x20].copy_from_slice(&(at as u64).to_le_bytes());
            header[0x20..0x28].copy_from_slice(&(size as u64).to_le_bytes());
            file.extend_from_slice(&header);
        }
        file
    }

    #[test]
    fn a_section_is_found_by_its_name() {
        let file = with_section(".modinfo", b"license=GPL\0");
        assert_eq!(section(&file, ".modinfo"), Some(&b"license=GPL\0"[..]));
        assert_eq!(section(&file, ".text"), None);
    }

    #[test]
    fn a_truncated_object_has_no_sections() {
        let file = with_section(".modinfo", b"license=GPL\0");
        for length in 0..file.len() - 64 {
            assert_eq!(section(&file[..length], ".modinfo"), None, "{length} bytes");
        }
    }
}
