//! Applications that take every connection that they can get.

use secrecy::{ExposeSecret as _, SecretString};
use tokio_postgres::NoTls;

/// Their connections; they end when it is dropped.
pub(crate) struct Crowd {
    clients: Vec<tokio_postgres::Client>,
    _runtime: tokio::runtime::Runtime,
}

impl Crowd {
    /// Connects until the server has no more room.
    pub(crate) fn take(host: &str, password: &SecretString) -> Crowd {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mut config = tokio_postgres::Config::new();
        config.host(host).user("cluster").dbname("cluster").password(password.expose_secret());
        config.application_name("crowd");
        let clients = runtime.block_on(async {
            let mut clients = Vec::new();
            while let Ok((client, connection)) = config.connect(NoTls).await {
                tokio::spawn(connection);
                clients.push(client);
            }
            clients
        });
        assert!(clients.len() > 20, "the server has room for {} alone", clients.len());
        Crowd { clients, _runtime: runtime }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.clients.len()
    }
}
