//! The PIN. A token that is given a few wrong ones locks itself, so one that it refused is not tried
//! again as long as this process lives, and the last try is left to the user.

use std::sync::{Mutex, PoisonError};

use cryptoki::error::{Error, RvError};
use cryptoki::session::{Session, SessionState, UserType};
use cryptoki::slot::TokenInfo;
use cryptoki::types::AuthPin;

use super::Wanted;
use super::errors::words;
use crate::secret::Secret;
use crate::tls::Problem;

/// What a token said to a PIN. A token is logged in once for all sessions of a process, so that a second
/// PIN is not looked at; it is compared with the first here.
struct Tried {
    token: String,
    pin: Secret,
    good: bool,
}

static TRIED: Mutex<Vec<Tried>> = Mutex::new(Vec::new());

pub(super) fn login(session: &Session, token: &TokenInfo, wanted: &Wanted) -> Result<(), Problem> {
    if !token.login_required() {
        return Ok(());
    }
    let label = token.label();
    let id = format!("{label}\0{}\0{}", token.serial_number(), token.manufacturer_id());
    // Held to the end: of two with the same wrong PIN only one may try it.
    let mut tried = TRIED.lock().unwrap_or_else(PoisonError::into_inner);
    let state = session.get_session_info().map(|info| info.session_state());
    let logged_in = matches!(state, Ok(SessionState::RoUser | SessionState::RwUser));
    let Some(pin) = &wanted.pin else {
        return match logged_in || token.protected_authentication_path() {
            true if logged_in => Ok(()),
            // Asked for at the reader's own keys.
            true => session.login(UserType::User, None).map_err(|error| refused(&error, label, wanted)),
            false => Err(wanted
                .problem("missing-pin", format!("the token {label} asks for a PIN and none is given"))
                .help("add `pin:`, for example `pin: { env: TOKEN_PIN }`")),
        };
    };
    let known = tried.iter().find(|tried| tried.token == id && tried.pin == *pin);
    match known.map(|known| known.good) {
        Some(false) => {
            return Err(wanted
                .problem(
                    "wrong-pin",
                    format!("the token {label} has refused this PIN; it is not tried again, since the token would lock itself"),
                )
                .help("check `pin:`; if the token's PIN was changed to this one meanwhile, restart gatepass"));
        }
        Some(true) if logged_in => return Ok(()),
        None if logged_in && tried.iter().any(|tried| tried.token == id && tried.good) => {
            return Err(wanted
                .problem("wrong-pin", format!("this PIN is not the one that opened the token {label}"))
                .help("check `pin:`; if the token's PIN was changed to this one meanwhile, restart gatepass"));
        }
        _ => {}
    }
    if token.user_pin_locked() {
        return Err(locked(label, wanted));
    }
    if token.user_pin_final_try() {
        return Err(wanted
            .problem(
                "last-pin-try",
                format!("the token {label} would lock itself at the next wrong PIN; gatepass leaves that try to you"),
            )
            .help(format!(
                "open it once by hand, which sets the counter back: pkcs11-tool --login --token-label \"{label}\" --list-objects"
            )));
    }
    match session.login(UserType::User, Some(&AuthPin::from(pin.expose().to_owned()))) {
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {
            tried.retain(|tried| tried.token != id || tried.pin != *pin);
            tried.push(Tried { token: id, pin: pin.clone(), good: true });
            Ok(())
        }
        Err(error) => {
            if is_about_the_pin(&error) {
                tried.retain(|tried| tried.token != id || tried.pin != *pin);
                tried.push(Tried { token: id, pin: pin.clone(), good: false });
            }
            Err(refused(&error, label, wanted))
        }
    }
}

fn is_about_the_pin(error: &Error) -> bool {
    use RvError::{PinExpired, PinIncorrect, PinInvalid, PinLenRange, PinLocked};
    matches!(error, Error::Pkcs11(PinIncorrect | PinInvalid | PinLenRange | PinExpired | PinLocked, _))
}

fn locked(label: &str, wanted: &Wanted) -> Problem {
    wanted
        .problem("locked-pin", format!("the PIN of the token {label} is locked: it was given wrong ones too often"))
        .help("its security officer (SO PIN or PUK) can set a new one: pkcs11-tool --login --login-type so --init-pin")
}

fn refused(error: &Error, label: &str, wanted: &Wanted) -> Problem {
    let rv = match error {
        Error::Pkcs11(rv, _) => rv,
        other => return wanted.problem("token", format!("the token {label} cannot be opened: {}", words(other))),
    };
    match rv {
        RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange => wanted
            .problem("wrong-pin", format!("the token {label} refuses the PIN"))
            .help("check `pin:`; it is not tried again, since a token locks itself after a few wrong ones"),
        RvError::PinLocked => locked(label, wanted),
        RvError::PinExpired => wanted
            .problem("expired-pin", format!("the PIN of the token {label} has expired"))
            .help("set a new one: pkcs11-tool --login --change-pin"),
        RvError::UserPinNotInitialized => wanted
            .problem("no-pin-set", format!("the token {label} has no user PIN yet"))
            .help("set one: pkcs11-tool --login --login-type so --init-pin"),
        _ => wanted.problem("token", format!("the token {label} cannot be opened: {}", words(error))),
    }
}

#[cfg(test)]
mod tests {
    use cryptoki::context::Function;

    use super::*;
    use crate::settings::Place;
    use crate::tls::token_uri::TokenUri;

    #[test]
    fn a_wrong_pin_is_told_apart_from_a_locked_and_an_expired_one() {
        let wanted =
            Wanted { uri: TokenUri::default(), module: None, pin: None, place: Place::default(), module_place: Place::default() };
        let code = |rv| refused(&Error::Pkcs11(rv, Function::Login), "card", &wanted).code;
        assert_eq!(code(RvError::PinIncorrect), "wrong-pin");
        assert_eq!(code(RvError::PinLocked), "locked-pin");
        assert_eq!(code(RvError::PinExpired), "expired-pin");
        assert_eq!(code(RvError::UserPinNotInitialized), "no-pin-set");
        assert_eq!(code(RvError::DeviceRemoved), "token");
        assert!(is_about_the_pin(&Error::Pkcs11(RvError::PinIncorrect, Function::Login)));
        assert!(!is_about_the_pin(&Error::Pkcs11(RvError::DeviceRemoved, Function::Login)));
    }
}
