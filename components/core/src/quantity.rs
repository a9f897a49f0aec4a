//! Amounts as people write them on the command line: `--memory 2Gb`, `--cpus 0.5`.

use thiserror::Error;

/// Why an amount is wrong.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum QuantityError {
    /// Not an amount of memory.
    #[error(
        "`{0}` is not an amount of memory; write a number with `b`, `k`, `m`, `g` or `t`, such as `512m`, `2Gb` or `1.5GiB`"
    )]
    Memory(String),
    /// Less memory than a container can start with.
    #[error("`{0}` is too little memory; the least is `6m`")]
    TooLittleMemory(String),
    /// Not a number of processors.
    #[error("`{0}` is not a number of processors; write a number from `0.01` to `4096`, such as `1`, `0.5` or `1.25`")]
    Cpus(String),
}

/// The least memory that Docker accepts for a container, in bytes.
pub const LEAST_MEMORY_BYTES: u64 = 6 << 20;

/// Reads an amount of memory as Docker does: units count in powers of 1024 whatever their spelling, case does not
/// matter, no unit means bytes. The result is in bytes.
///
/// # Errors
/// If it is no amount, or less than [`LEAST_MEMORY_BYTES`].
pub fn memory_bytes(text: &str) -> Result<u64, QuantityError> {
    match bytes(text)? {
        bytes if bytes < LEAST_MEMORY_BYTES => Err(QuantityError::TooLittleMemory(shown(text))),
        bytes => Ok(bytes),
    }
}

/// Reads an amount of memory like [`memory_bytes`], however little it is.
///
/// # Errors
/// If it is no amount.
pub fn bytes(text: &str) -> Result<u64, QuantityError> {
    let fail = || QuantityError::Memory(shown(text));
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let (number, unit) = lower.split_at_checked(digits).ok_or_else(fail)?;
    let shift = match unit.strip_prefix(' ').unwrap_or(unit) {
        "" | "b" => 0,
        "k" | "kb" | "ki" | "kib" => 10,
        "m" | "mb" | "mi" | "mib" => 20,
        "g" | "gb" | "gi" | "gib" => 30,
        "t" | "tb" | "ti" | "tib" => 40,
        _ => return Err(fail()),
    };
    // In millionths, so that `1.5g` is exact and nothing passes through a float.
    let millionths = decimal(number, 6).ok_or_else(fail)?;
    let bytes = (millionths.checked_mul(1 << shift).ok_or_else(fail)?) / 1_000_000;
    u64::try_from(bytes).ok().filter(|bytes| *bytes <= i64::MAX as u64).ok_or_else(fail)
}

/// Reads a number of processors. The result is in thousandths of a core.
///
/// # Errors
/// If it is no number between 0.01 and 4096.
pub fn cpu_millis(text: &str) -> Result<u32, QuantityError> {
    decimal(text.trim(), 3)
        .and_then(|millis| u32::try_from(millis).ok())
        .filter(|millis| (10..=4_096_000).contains(millis))
        .ok_or_else(|| QuantityError::Cpus(shown(text)))
}

/// A decimal number times ten to the power of `places`. Digits beyond that are cut off.
fn decimal(text: &str, places: usize) -> Option<u128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let complete = !whole.is_empty() || !fraction.is_empty();
    if !complete || !digits(whole) || !digits(fraction) || text.ends_with('.') || whole.len() > 20 {
        return None;
    }
    let fraction: String = fraction.chars().chain(std::iter::repeat('0')).take(places).collect();
    format!("{whole}{fraction}").parse().ok()
}

fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn memory_is_read_as_docker_reads_it() {
        for (text, bytes) in [
            ("2Gb", 2 << 30),
            ("512m", 512 << 20),
            ("1GiB", 1 << 30),
            ("1.5g", 3 << 29),
            ("100000k", 100_000 << 10),
            ("10 MB", 10 << 20),
            ("6291456", 6 << 20),
            (" 1t ", 1 << 40),
        ] {
            assert_eq!(memory_bytes(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn other_memory_is_refused_with_examples() {
        for text in ["", "b", "-1g", "1x", "1.g", "1..5g", "99999999999999999999g", "1e9", "٣g", "1 0g", "g1"] {
            assert!(memory_bytes(text).unwrap_err().to_string().contains("`512m`"), "{text}");
        }
        assert_eq!(memory_bytes("0"), Err(QuantityError::TooLittleMemory("0".to_owned())));
    }

    #[test]
    fn processors_are_counted_in_thousandths() {
        for (text, millis) in [("1", 1000), ("0.5", 500), (".25", 250), ("1.2345", 1234), ("16", 16_000)] {
            assert_eq!(cpu_millis(text), Ok(millis), "{text}");
        }
        for text in ["", ".", "0", "0.001", "-1", "two", "1e3", "4097", "99999999999999999999999", "1."] {
            assert!(cpu_millis(text).unwrap_err().to_string().contains("`0.5`"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn reading_is_total(text in "[0-9.]{0,30}[ -~é]{0,6}") {
            drop(memory_bytes(&text));
            drop(cpu_millis(&text));
        }
    }
}
