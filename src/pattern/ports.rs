//! The ports of a rule: none said, any, or ranges.

use std::fmt;

use crate::origin::Scheme;

/// Ports of a rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ports {
    /// None given: the default port of the scheme.
    Default,
    Any,
    /// Inclusive ranges.
    Ranges(Vec<(u16, u16)>),
}

impl Ports {
    /// `443`, `8000-8999` or `any`.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(text: &str) -> Result<Self, String> {
        const WRONG: &str = "a port is a number from 1 to 65535, a range as `8000-8999`, or `any`";
        let number = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0).ok_or(WRONG.to_owned());
        if matches!(text.trim(), "any" | "*") {
            return Ok(Self::Any);
        }
        let (low, high) = match text.split_once('-') {
            Some((low, high)) => (number(low)?, number(high)?),
            None => (number(text)?, number(text)?),
        };
        if low > high {
            return Err(format!("the range {low}-{high} is empty"));
        }
        Ok(Self::Ranges(vec![(low, high)]))
    }

    /// Both together.
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Ranges(mut a), Self::Ranges(b)) => {
                a.extend(b);
                Self::Ranges(a)
            }
            (Self::Any, _) | (_, Self::Any) => Self::Any,
            (Self::Default, some) | (some, Self::Default) => some,
        }
    }

    pub fn contains(&self, port: u16, scheme: Scheme) -> bool {
        match self {
            Self::Default => port == scheme.default_port(),
            Self::Any => true,
            Self::Ranges(ranges) => ranges.iter().any(|(low, high)| (*low..=*high).contains(&port)),
        }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = |(low, high): &(u16, u16)| if low == high { low.to_string() } else { format!("{low}-{high}") };
        match self {
            Self::Default => f.write_str("the default port"),
            Self::Any => f.write_str("any"),
            Self::Ranges(ranges) => f.write_str(&ranges.iter().map(range).collect::<Vec<_>>().join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_the_schemes_default_unless_said() {
        assert!(Ports::Default.contains(443, Scheme::Https) && !Ports::Default.contains(8443, Scheme::Https));
        assert!(Ports::Default.contains(80, Scheme::Http) && !Ports::Default.contains(443, Scheme::Http));
        let range = Ports::parse("8000-8999").unwrap();
        assert!(
            range.contains(8000, Scheme::Https) && range.contains(8999, Scheme::Https) && !range.contains(9000, Scheme::Https)
        );
        for text in ["0", "65536", "x", "", "9-1", "-1"] {
            assert!(Ports::parse(text).is_err(), "{text}");
        }
    }
}
