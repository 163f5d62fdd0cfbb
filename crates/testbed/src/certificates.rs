//! Certificates for servers and clients of tests. The command line of OpenSSL creates them in the directory of a server.

use std::fs;
use std::path::Path;

use crate::{Guardian, ServerError};

/// The password of the key `locked.key`. No output may show it.
pub const KEY_PASSWORD: &str = "password-of-the-key";

/// Creates them: see `certificates.sh`.
pub(crate) fn create(guardian: &Guardian) -> Result<(), ServerError> {
    let script = guardian.directory().join("certificates.sh");
    fs::write(&script, include_str!("certificates.sh")).map_err(|error| ServerError(error.to_string()))?;
    if guardian.run(&format!("sh certificates.sh {KEY_PASSWORD} >>log 2>&1"))? != 0 {
        return Err(ServerError(format!("no certificates (is openssl installed?):\n{}", guardian.tail("log"))));
    }
    Ok(())
}

/// The path of a file that [`create`] has made.
pub(crate) fn path(directory: &Path, file: &str) -> String {
    directory.join(file).display().to_string()
}
