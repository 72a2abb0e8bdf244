//! The grants of OAuth 2, by which a client comes to a token.

/// What the token endpoint is asked with.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Grant {
    ClientCredentials,
    Password,
    AuthorizationCode,
    DeviceCode,
    RefreshToken,
    /// RFC 7523 §2.1.
    JwtBearer,
    /// RFC 8693.
    TokenExchange,
}

impl Grant {
    pub const WORDS: [(&'static str, Grant); 7] = [
        ("client_credentials", Grant::ClientCredentials),
        ("password", Grant::Password),
        ("authorization_code", Grant::AuthorizationCode),
        ("device_code", Grant::DeviceCode),
        ("refresh_token", Grant::RefreshToken),
        ("jwt_bearer", Grant::JwtBearer),
        ("token_exchange", Grant::TokenExchange),
    ];

    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, grant)| *grant == self).map_or("", |(word, _)| word)
    }

    /// The `grant_type` of the token request.
    pub fn kind(self) -> &'static str {
        match self {
            Grant::ClientCredentials => "client_credentials",
            Grant::Password => "password",
            Grant::AuthorizationCode => "authorization_code",
            Grant::DeviceCode => "urn:ietf:params:oauth:grant-type:device_code",
            Grant::RefreshToken => "refresh_token",
            Grant::JwtBearer => "urn:ietf:params:oauth:grant-type:jwt-bearer",
            Grant::TokenExchange => "urn:ietf:params:oauth:grant-type:token-exchange",
        }
    }

    /// A person signs in; the tokens are kept in a file.
    pub fn is_sign_in(self) -> bool {
        matches!(self, Grant::AuthorizationCode | Grant::DeviceCode)
    }
}
