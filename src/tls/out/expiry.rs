//! How near a certificate's end is, and when that is worth a word.

use std::time::{Duration, SystemTime};

use crate::settings::Place;
use crate::tls::Problem;
use crate::tls::formats::inspect::{Details, day};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The last month, week and day of a certificate; and what comes after.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Near {
    Month,
    Week,
    Day,
    Past,
}

/// `None`: not near. Certificates that live only hours or days are renewed all the time; one is near its
/// end only in the last third of its life.
pub fn near(details: &Details, now: SystemTime) -> Option<Near> {
    let Ok(left) = details.not_after.duration_since(now) else { return Some(Near::Past) };
    let life = details.not_after.duration_since(details.not_before).unwrap_or_default();
    if left > life / 3 {
        return None;
    }
    match left {
        left if left <= DAY => Some(Near::Day),
        left if left <= 7 * DAY => Some(Near::Week),
        left if left <= 30 * DAY => Some(Near::Month),
        _ => None,
    }
}

/// `ends on 2026-12-01 (in 6 days)`, `expired on 2026-11-20`.
pub fn words(details: &Details, now: SystemTime) -> String {
    match details.not_after.duration_since(now) {
        Err(_) => format!("expired on {}", day(details.not_after)),
        Ok(left) => {
            let (days, hours) = (left.as_secs() / DAY.as_secs(), left.as_secs() / 3600);
            let left = match (days, hours) {
                (0, 1) => "1 hour".to_owned(),
                (0, hours) => format!("{hours} hours"),
                (1, _) => "1 day".to_owned(),
                (days, _) => format!("{days} days"),
            };
            format!("ends on {} (in {left})", day(details.not_after))
        }
    }
}

/// A warning where the end is near or past. `what` is the subject of its sentence.
pub fn warning(details: &Details, place: Option<Place>, what: &str, mend: &str) -> Option<Problem> {
    let now = SystemTime::now();
    let code = match near(details, now)? {
        Near::Past => "expired",
        _ => "expires-soon",
    };
    Some(Problem::new(code, place, format!("{what} {}", words(details, now))).help(mend))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing::{Ca, params};

    fn lasting(life: Duration) -> Details {
        let now = SystemTime::now();
        let ca = Ca::root("Root");
        let mut params = params("short", &[]);
        params.not_before = now.into();
        params.not_after = (now + life).into();
        Details::read(ca.issue(&params).leaf()).unwrap()
    }

    #[test]
    fn the_last_month_week_and_day_are_told_apart() {
        let year = lasting(365 * DAY);
        let before = |left: Duration| near(&year, year.not_after - left);
        assert_eq!(before(31 * DAY), None);
        assert_eq!(before(30 * DAY), Some(Near::Month));
        assert_eq!(before(7 * DAY), Some(Near::Week));
        assert_eq!(before(DAY), Some(Near::Day));
        assert_eq!(near(&year, year.not_after + DAY), Some(Near::Past));
        assert!(words(&year, year.not_after - 30 * DAY).ends_with("(in 30 days)"));
        assert!(words(&year, year.not_after - DAY / 2).ends_with("(in 12 hours)"));
    }

    #[test]
    fn a_certificate_that_lives_an_hour_is_not_near_its_end_while_it_is_fresh() {
        let hour = lasting(Duration::from_secs(3600));
        assert_eq!(near(&hour, hour.not_before), None);
        assert_eq!(near(&hour, hour.not_after - Duration::from_secs(600)), Some(Near::Day));
    }
}
