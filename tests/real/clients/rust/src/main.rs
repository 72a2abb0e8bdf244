//! rust-clients native-tls|native-roots|webpki-roots|ureq URL
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [kind, url] = std::env::args().skip(1).collect::<Vec<_>>().try_into().map_err(|_| "two arguments")?;
    let client = reqwest::blocking::Client::builder();
    let client = match kind.as_str() {
        "native-tls" => client.use_native_tls(),
        "native-roots" => client.use_rustls_tls().tls_built_in_webpki_certs(false),
        "webpki-roots" => client.use_rustls_tls().tls_built_in_native_certs(false),
        _ => {
            println!("{}", ureq::get(&url).call()?.body_mut().read_to_string()?);
            return Ok(());
        }
    };
    println!("{}", client.build()?.get(url).send()?.text()?);
    Ok(())
}
