//! The bucket of the lab's object storage, and its keys, deleted as somebody would in the provider's control panel.

use std::net::SocketAddr;
use std::time::Duration;

use cluster_cloud::model::Grant;
use reqwest::{Certificate, Client, Method, Url};
use rusty_s3::actions::ListObjectsV2;
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};
use secrecy::ExposeSecret as _;

use crate::support::{Lab, block_on};

/// What the stage's inventory calls it.
pub(crate) const NAME: &str = "demo-backups";
/// The lab's name for its object storage.
const HOST: &str = "spaces.lab";
const SIGNED_FOR: Duration = Duration::from_secs(300);
const OURS: &str = "for a moment";

/// The bucket and everything in it.
pub(crate) fn delete(lab: &Lab) -> Result<(), String> {
    block_on(async {
        let client = lab.client();
        let key = client.create_spaces_key(OURS, &[Grant::full()]).await.map_err(|it| it.to_string())?;
        let deleted = empty_and_delete(lab, &key.access_key, key.secret_key.expose_secret()).await;
        client.delete_spaces_key(&key.access_key).await.map_err(|it| it.to_string())?;
        deleted
    })
}

/// Every key of the account.
pub(crate) fn delete_keys(lab: &Lab) -> Result<(), String> {
    let listed = lab.request("GET", "/v2/spaces/keys", None);
    let keys = listed["keys"].as_array().ok_or_else(|| format!("{listed} is no list of keys"))?;
    for key in keys.iter().filter_map(|key| key["access_key"].as_str()) {
        let deleted = block_on(async { lab.client().delete_spaces_key(key).await });
        deleted.map_err(|error| error.to_string())?;
    }
    Ok(())
}

async fn empty_and_delete(lab: &Lab, id: &str, secret: &str) -> Result<(), String> {
    let ca = std::fs::read(format!("/var/lib/cluster-lab/{}/spaces_ca.crt", lab.name)).unwrap();
    let http = Client::builder()
        .no_proxy()
        .tls_certs_only([Certificate::from_pem(&ca).unwrap()])
        .resolve(HOST, SocketAddr::from(([127, 0, 0, 1], 0)))
        .build()
        .unwrap();
    let url: Url = format!("https://{HOST}:{}", lab.port + 1000).parse().unwrap();
    let bucket = Bucket::new(url, UrlStyle::Path, NAME, "fra1").unwrap();
    let credentials = Credentials::new(id, secret);
    let ask = async |method: Method, url: Url| {
        let answer = http.request(method, url).send().await.map_err(|it| it.to_string())?;
        let status = answer.status();
        let text = answer.text().await.map_err(|it| it.to_string())?;
        if status.is_success() { Ok(text) } else { Err(format!("{status}: {text}")) }
    };
    loop {
        let list = bucket.list_objects_v2(Some(&credentials)).sign(SIGNED_FOR);
        let text = ask(Method::GET, list).await?;
        let listed = ListObjectsV2::parse_response(&text).map_err(|it| it.to_string())?;
        if listed.contents.is_empty() {
            break;
        }
        for object in listed.contents {
            ask(Method::DELETE, bucket.delete_object(Some(&credentials), &object.key).sign(SIGNED_FOR))
                .await?;
        }
    }
    ask(Method::DELETE, bucket.delete_bucket(&credentials).sign(SIGNED_FOR)).await.map(drop)
}
