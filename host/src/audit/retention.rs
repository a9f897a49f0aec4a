//! How much of the log is kept. It knows nothing of the log itself: policies are read without one.

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Bytes of all files of the directory together. Beyond that the oldest are deleted.
    pub total_bytes: u64,
    /// Files of the directory, likewise.
    pub files: usize,
    /// Bytes of one file, after which the next one begins.
    pub file_bytes: u64,
}

impl Retention {
    /// The least that can be asked to be kept.
    pub const LEAST_BYTES: u64 = 1 << 20;

    /// So many bytes in all, in sixteen files or more.
    pub fn of_bytes(total_bytes: u64) -> Self {
        let total_bytes = total_bytes.max(Self::LEAST_BYTES);
        Self { total_bytes, files: 2000, file_bytes: (total_bytes / 16).min(16 << 20) }
    }
}

impl Default for Retention {
    /// 256 MiB, in files of 16 MiB.
    fn default() -> Self {
        Self::of_bytes(256 << 20)
    }
}
