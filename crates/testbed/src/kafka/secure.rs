//! A broker with TLS and logins.

use std::path::Path;

use super::{Kafka, USER, USER_PASSWORD, java};
use crate::{certificates, free_ports, quoted};

/// The listeners of [`Kafka::start_secure`] besides the first one. Each is for the host name `localhost`.
#[derive(Clone, Debug)]
pub struct SecureListeners {
    /// TLS and a login of [`USER`] by PLAIN or SCRAM-SHA-512, or by a token.
    pub login: u16,
    /// TLS, and the client needs a certificate.
    pub mutual: u16,
    /// TLS with a certificate that has expired.
    pub expired: u16,
}

impl Kafka {
    /// A broker with listeners that encrypt.
    pub fn start_secure() -> (Self, SecureListeners) {
        let [port, controller, login, mutual, expired] = free_ports().unwrap();
        let listener = format!(",LOGIN://127.0.0.1:{login},MUTUAL://127.0.0.1:{mutual},EXPIRED://127.0.0.1:{expired}");
        let advertised = listener.replace("127.0.0.1", "localhost");
        let modules = "org.apache.kafka.common.security";
        let plain = format!("{modules}.plain.PlainLoginModule required user_{USER}=\"{USER_PASSWORD}\";");
        let scram = format!("{modules}.scram.ScramLoginModule required;");
        let token =
            format!("{modules}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"broker\";");
        let settings = [
            (
                "listener.security.protocol.map",
                "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,LOGIN:SASL_SSL,MUTUAL:SSL,EXPIRED:SSL",
            ),
            ("listener.name.login.sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-512,OAUTHBEARER"),
            ("listener.name.login.plain.sasl.jaas.config", &plain),
            ("listener.name.login.scram-sha-512.sasl.jaas.config", &scram),
            ("listener.name.login.oauthbearer.sasl.jaas.config", &token),
            // A client with a token has to log in again before the token expires.
            ("connections.max.reauth.ms", "3600000"),
            ("listener.name.login.ssl.keystore.type", "PEM"),
            ("listener.name.login.ssl.keystore.location", "server-with-key.pem"),
            ("listener.name.mutual.ssl.keystore.type", "PEM"),
            ("listener.name.mutual.ssl.keystore.location", "server-with-key.pem"),
            ("listener.name.mutual.ssl.client.auth", "required"),
            ("listener.name.mutual.ssl.truststore.type", "PEM"),
            ("listener.name.mutual.ssl.truststore.location", "ca.pem"),
            ("listener.name.expired.ssl.keystore.type", "PEM"),
            ("listener.name.expired.ssl.keystore.location", "expired-with-key.pem"),
        ];
        let kafka = Self::start_first(port, controller, (&listener, &advertised), &settings);
        let user = format!("SCRAM-SHA-512=[password={USER_PASSWORD}]");
        let command = format!(
            "kafka.admin.ConfigCommand --bootstrap-server {} --alter --add-config {} --entity-type users --entity-name {USER}",
            kafka.address(),
            quoted(user)
        );
        kafka.files(&format!("({})", java(&command)));
        (kafka, SecureListeners { login, mutual, expired })
    }

    /// The path of a certificate or a key of [`Self::start_secure`].
    pub fn certificate(&self, file: &str) -> String {
        certificates::path(self.directory(), file)
    }

    /// Where the certificates and keys are.
    pub fn directory(&self) -> &Path {
        self.guardian.directory()
    }
}
