//! Date arithmetic on the proleptic Gregorian calendar, without a time zone database: offsets are given.

use super::{Arguments, integer, string};

const DAY: i64 = 86_400;

/// Adds to a point in time and shows it at an offset.
pub(super) fn date_math(arguments: &Arguments) -> Result<String, String> {
    let (instant, own_offset) = parse(string(arguments, "time")?)?;
    let offset = match arguments.get("offset") {
        None | Some(serde_json::Value::Null) => own_offset,
        Some(_) => parse_offset(string(arguments, "offset")?)?,
    };
    let mut result = instant;
    for (name, seconds) in [("days", DAY), ("hours", 3600), ("minutes", 60), ("seconds", 1)] {
        result = integer(arguments, name)?
            .checked_mul(seconds)
            .and_then(|more| result.checked_add(more))
            .ok_or_else(too_far)?;
    }
    format(result, offset)
}

fn too_far() -> String {
    "the result is outside of the years 0000 to 9999".to_owned()
}

/// Seconds since 1970-01-01T00:00:00Z, and the offset in seconds that the text was written with.
fn parse(text: &str) -> Result<(i64, i64), String> {
    let wrong = || format!("`{text}` is not a time in RFC 3339; write it as 2026-02-28T23:30:00+01:00");
    let number = |range: std::ops::Range<usize>| {
        text.get(range)
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|digits| digits.parse::<i64>().ok())
            .ok_or_else(wrong)
    };
    let separators = [(4, "-"), (7, "-"), (13, ":"), (16, ":")];
    let separated = separators.iter().all(|&(at, mark)| text.get(at..at + 1) == Some(mark));
    if !separated || !matches!(text.get(10..11), Some("T" | "t" | " ")) {
        return Err(wrong());
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let valid = (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !valid {
        return Err(format!("`{text}` is not on the calendar; check the day and the time"));
    }
    let rest = text.get(19..).ok_or_else(wrong)?;
    // Fractions of a second are accepted and dropped.
    let rest = match rest.strip_prefix('.') {
        Some(fraction) if fraction.starts_with(|c: char| c.is_ascii_digit()) => {
            fraction.trim_start_matches(|c: char| c.is_ascii_digit())
        }
        Some(_) => return Err(wrong()),
        None => rest,
    };
    let offset = parse_offset(rest).map_err(|_| wrong())?;
    let local = days_from_civil(year, month, day) * DAY + hour * 3600 + minute * 60 + second;
    Ok((local - offset, offset))
}

fn parse_offset(text: &str) -> Result<i64, String> {
    let wrong = || format!("`{text}` is not a UTC offset; write Z, +05:30 or -08:00");
    if matches!(text, "Z" | "z") {
        return Ok(0);
    }
    let bytes = text.as_bytes();
    let &[sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] = bytes else { return Err(wrong()) };
    if ![h1, h2, m1, m2].iter().all(u8::is_ascii_digit) {
        return Err(wrong());
    }
    let two = |tens: u8, ones: u8| i64::from(tens - b'0') * 10 + i64::from(ones - b'0');
    let (hours, minutes) = (two(h1, h2), two(m1, m2));
    if hours > 23 || minutes > 59 {
        return Err(wrong());
    }
    let seconds = hours * 3600 + minutes * 60;
    Ok(if sign == b'-' { -seconds } else { seconds })
}

fn format(instant: i64, offset: i64) -> Result<String, String> {
    let local = instant.checked_add(offset).ok_or_else(too_far)?;
    let (days, seconds) = (local.div_euclid(DAY), local.rem_euclid(DAY));
    // Year 0000 to year 9999.
    if !(days_from_civil(0, 1, 1)..=days_from_civil(9999, 12, 31)).contains(&days) {
        return Err(too_far());
    }
    let (year, month, day) = civil_from_days(days);
    let weekday = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"]
        .get(usize::try_from(days.rem_euclid(7)).unwrap_or_default())
        .copied()
        .unwrap_or_default();
    let zone = match offset {
        0 => "Z".to_owned(),
        _ => {
            let sign = if offset < 0 { '-' } else { '+' };
            format!("{sign}{:02}:{:02}", offset.abs() / 3600, offset.abs() / 60 % 60)
        }
    };
    Ok(format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}{zone} ({weekday})",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    ))
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01. Years are counted from March, so that the leap day comes last, in eras of 400.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let (day, month) =
        (day_of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn math(arguments: Value) -> Result<String, String> {
        date_math(arguments.as_object().unwrap())
    }

    #[test]
    fn days_carry_over_months_and_leap_days() {
        assert_eq!(
            math(json!({"time": "2024-02-28T12:00:00Z", "days": 1})).as_deref(),
            Ok("2024-02-29T12:00:00Z (Thursday)")
        );
        assert_eq!(
            math(json!({"time": "2026-02-28T23:30:00+01:00", "hours": 1})).as_deref(),
            Ok("2026-03-01T00:30:00+01:00 (Sunday)")
        );
        assert_eq!(
            math(json!({"time": "1970-01-01T00:00:00Z", "seconds": -1})).as_deref(),
            Ok("1969-12-31T23:59:59Z (Wednesday)")
        );
    }

    #[test]
    fn a_time_is_shown_at_another_offset() {
        assert_eq!(
            math(json!({"time": "2026-01-01T00:15:00.5+05:30", "offset": "-08:00"})).as_deref(),
            Ok("2025-12-31T10:45:00-08:00 (Wednesday)")
        );
    }

    #[test]
    fn every_day_of_four_centuries_survives_the_round_trip() {
        let (first, last) = (days_from_civil(1800, 1, 1), days_from_civil(2200, 1, 1));
        assert_eq!(last - first, 146_097);
        for day in first..last {
            let (year, month, of_month) = civil_from_days(day);
            assert_eq!(days_from_civil(year, month, of_month), day);
        }
    }

    #[test]
    fn what_is_not_a_time_is_refused_with_an_example() {
        for text in [
            "tomorrow",
            "2026-02-30T00:00:00Z",
            "2026-01-01T25:00:00Z",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00é",
        ] {
            let message = math(json!({"time": text})).unwrap_err();
            assert!(message.contains("2026-02-28T23:30:00+01:00") || message.contains("calendar"), "{message}");
        }
        assert!(math(json!({"time": "2026-01-01T00:00:00Z", "days": i64::MAX})).unwrap_err().contains("years"));
        assert!(math(json!({"time": "2026-01-01T00:00:00Z", "days": "x"})).unwrap_err().contains("integer"));
    }
}
