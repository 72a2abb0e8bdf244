//! What PKCS#11 says when it does not do what was asked.

use cryptoki::error::{Error, RvError};

/// Is the session or the token gone, rather than the request wrong?
pub(super) fn is_gone(error: &Error) -> bool {
    use RvError::{
        ArgumentsBad, DataInvalid, DataLenRange, FunctionNotSupported, KeyFunctionNotPermitted, KeySizeRange,
        KeyTypeInconsistent, MechanismInvalid, MechanismParamInvalid,
    };
    match error {
        Error::Pkcs11(rv, _) => !matches!(
            rv,
            MechanismInvalid
                | MechanismParamInvalid
                | KeyFunctionNotPermitted
                | KeyTypeInconsistent
                | KeySizeRange
                | DataInvalid
                | DataLenRange
                | ArgumentsBad
                | FunctionNotSupported
        ),
        _ => false,
    }
}

/// The error by its name in PKCS#11, which is what its vendor's documents speak of.
pub(super) fn words(error: &Error) -> String {
    let Error::Pkcs11(rv, _) = error else { return error.to_string() };
    match rv {
        RvError::VendorDefined(code) | RvError::UnknownErrorCode(code) => format!("error {code:#x} of its vendor"),
        named => {
            let mut name = "CKR".to_owned();
            for c in format!("{named:?}").chars() {
                if c.is_uppercase() {
                    name.push('_');
                }
                name.push(c.to_ascii_uppercase());
            }
            name
        }
    }
}

#[cfg(test)]
mod tests {
    use cryptoki::context::Function;

    use super::*;

    #[test]
    fn errors_have_the_names_of_the_standard_and_say_whether_to_open_the_token_again() {
        let error = |rv| Error::Pkcs11(rv, Function::Sign);
        assert_eq!(words(&error(RvError::SessionHandleInvalid)), "CKR_SESSION_HANDLE_INVALID");
        assert!(is_gone(&error(RvError::DeviceRemoved)));
        assert!(is_gone(&error(RvError::UserNotLoggedIn)));
        assert!(!is_gone(&error(RvError::KeyFunctionNotPermitted)));
        assert!(!is_gone(&Error::NotSupported));
    }
}
