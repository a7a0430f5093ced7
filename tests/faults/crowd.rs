//! Applications: some take every connection that they can get, others come back as soon as they are thrown out.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Semaphore;
use tokio_postgres::NoTls;

/// How long one waits before it tries again, and for how long it tries.
const AGAIN: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(5);
/// How many log in at the same moment: a login costs this machine, which plays all clients and hosts, some 50 ms.
const AT_ONCE: usize = 24;

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
        let config = config(host, password);
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

/// How long all of them may take.
pub(crate) const ALL_WITHIN: Duration = Duration::from_secs(120);

/// Clients with a connection each, which is made anew whenever it ends. They go when it is dropped.
pub(crate) struct Pool {
    connected: Arc<AtomicUsize>,
    _runtime: tokio::runtime::Runtime,
}

impl Pool {
    /// Starts `count` of them, and waits until all are connected.
    pub(crate) fn connect(host: &str, password: &SecretString, count: usize) -> Result<Pool, String> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let connected = Arc::new(AtomicUsize::new(0));
        let door = Arc::new(Semaphore::new(AT_ONCE));
        for _ in 0..count {
            let (config, connected, door) = (config(host, password), connected.clone(), door.clone());
            runtime.spawn(async move {
                loop {
                    let passes = door.acquire().await;
                    let connects = tokio::time::timeout(PATIENCE, config.connect(NoTls)).await;
                    drop(passes);
                    // Dropping the client would end the connection.
                    if let Ok(Ok((_client, connection))) = connects {
                        connected.fetch_add(1, Ordering::Relaxed);
                        let _ = connection.await;
                        connected.fetch_sub(1, Ordering::Relaxed);
                    }
                    tokio::time::sleep(AGAIN).await;
                }
            });
        }
        let pool = Pool { connected, _runtime: runtime };
        pool.all_within(count, ALL_WITHIN)?;
        Ok(pool)
    }

    /// Waits until this many are connected. How long that took, in seconds.
    pub(crate) fn all_within(&self, count: usize, limit: Duration) -> Result<f64, String> {
        let begun = std::time::Instant::now();
        while self.connected.load(Ordering::Relaxed) < count {
            if begun.elapsed() > limit {
                let connected = self.connected.load(Ordering::Relaxed);
                return Err(format!("{connected} of {count} clients are connected after {limit:?}"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(begun.elapsed().as_secs_f64())
    }
}

fn config(host: &str, password: &SecretString) -> tokio_postgres::Config {
    let mut config = tokio_postgres::Config::new();
    config.host(host).user("cluster").dbname("cluster").password(password.expose_secret());
    config.application_name("crowd").tcp_user_timeout(Duration::from_secs(3));
    config
}
