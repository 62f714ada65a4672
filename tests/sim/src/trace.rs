//! What happened in a world, as text: the same for the same seed, byte by byte.

/// FNV-1a, 64 bits.
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// Keeps every line, or nothing.
#[derive(Debug)]
pub(crate) struct SimTrace {
    lines: Option<Vec<String>>,
    hash: u64,
}

impl SimTrace {
    pub(crate) fn new(keep_lines: bool) -> Self {
        Self {
            lines: keep_lines.then(Vec::new),
            hash: FNV_OFFSET,
        }
    }

    pub(crate) const fn keeps_lines(&self) -> bool {
        self.lines.is_some()
    }

    pub(crate) fn push_line(&mut self, elapsed_ms: i64, text: impl FnOnce() -> String) {
        let Some(lines) = &mut self.lines else { return };
        let line = format!("{elapsed_ms:>10} {}", text());
        for byte in line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
        }
        lines.push(line);
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}
