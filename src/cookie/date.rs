//! The dates of `Expires`, read as leniently as RFC 6265 §5.1.1 wants.

use time::{Date, Month, Time};

/// Seconds since 1970; 0 for what is before. `None`: not a date.
pub fn parse(text: &str) -> Option<u64> {
    let (mut clock, mut day, mut month, mut year) = (None, None, None, None);
    for token in text.split(is_delimiter).filter(|token| !token.is_empty()) {
        if clock.is_none()
            && let Some(time) = time_of_day(token)
        {
            clock = Some(time);
        } else if day.is_none()
            && let Some(number) = leading_number(token, 1, 2)
        {
            day = Some(number);
        } else if month.is_none()
            && let Some(number) = month_of(token)
        {
            month = Some(number);
        } else if year.is_none() {
            year = leading_number(token, 2, 4);
        }
    }
    let year = match year? {
        year @ 70..=99 => year + 1900,
        year @ 0..=69 => year + 2000,
        year => year,
    };
    if year < 1601 {
        return None;
    }
    let month = Month::try_from(month?).ok()?;
    let date = Date::from_calendar_date(i32::try_from(year).ok()?, month, u8::try_from(day?).ok()?).ok()?;
    Some(u64::try_from(date.with_time(clock?).assume_utc().unix_timestamp()).unwrap_or(0))
}

fn is_delimiter(c: char) -> bool {
    matches!(c, '\t' | ' '..='/' | ';'..='@' | '['..='`' | '{'..='~')
}

fn time_of_day(token: &str) -> Option<Time> {
    let mut parts = token.splitn(3, ':');
    let (hour, minute, second) = (parts.next()?, parts.next()?, parts.next()?);
    let whole = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| leading_number(text, 1, 2)).flatten();
    let number = |n: Option<u32>| n.and_then(|n| u8::try_from(n).ok());
    Time::from_hms(number(whole(hour))?, number(whole(minute))?, number(leading_number(second, 1, 2))?).ok()
}

/// Digits at the start, at least and at most so many, and no digit after them.
fn leading_number(token: &str, least: usize, most: usize) -> Option<u32> {
    let digits = token.bytes().take_while(u8::is_ascii_digit).count();
    (least..=most).contains(&digits).then(|| token[..digits].parse().ok()).flatten()
}

fn month_of(token: &str) -> Option<u8> {
    const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let start = token.get(..3)?.to_ascii_lowercase();
    MONTHS.iter().position(|month| *month == start).and_then(|at| u8::try_from(at + 1).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_in_every_form_that_servers_write() {
        for text in [
            "Fri, 27 Nov 2026 03:25:48 GMT",
            "Friday, 27-Nov-26 03:25:48 GMT",
            "Fri Nov 27 03:25:48 2026",
            "27 nov 2026 3:25:48",
            "2026 27 NOVEMBER 03:25:48 UTC",
        ] {
            assert_eq!(parse(text), Some(1_795_749_948), "{text}");
        }
        assert_eq!(parse("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(parse("Sun, 06 Nov 1960 00:00:00 GMT"), Some(0), "before 1970 is long past");
        for text in [
            "",
            "tomorrow",
            "Fri, 31 Feb 2026 00:00:00 GMT",
            "Fri, 27 Nov 2026",
            "Fri, 27 Nov 2026 24:00:00",
            "27 Nov 1600 00:00:00",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
