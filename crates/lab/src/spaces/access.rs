//! Who may do what: keys, their secrets and their grants.

use std::sync::Arc;

use async_trait::async_trait;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::{S3Result, s3_error};

use crate::api::spaces_keys::{Permission, SpacesKey};

/// Finds the key of this name, if it works.
pub(super) type Lookup = Arc<dyn Fn(&str) -> Option<SpacesKey> + Send + Sync>;

/// The keys, as they are at the time of a request.
#[derive(Clone)]
pub(super) struct Keys(pub(super) Lookup);

impl Keys {
    fn find(&self, access_key: &str) -> S3Result<SpacesKey> {
        (self.0)(access_key).ok_or_else(|| s3_error!(InvalidAccessKeyId))
    }
}

#[async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        Ok(self.find(access_key)?.secret_key.into())
    }
}

#[async_trait]
impl S3Access for Keys {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        let credentials = context.credentials().ok_or_else(|| s3_error!(AccessDenied))?;
        let key = self.find(&credentials.access_key)?;
        let bucket = context.s3_path().get_bucket_name().unwrap_or_default();
        if key.may(needed(context.s3_op().name()), bucket) { Ok(()) } else { Err(s3_error!(AccessDenied)) }
    }
}

/// The permission that an operation needs. What is not known here changes a bucket, or is not served.
fn needed(operation: &str) -> Permission {
    match operation {
        "GetBucketLocation" | "GetObject" | "HeadBucket" | "HeadObject" | "ListObjectsV2" => Permission::Read,
        "AbortMultipartUpload"
        | "CompleteMultipartUpload"
        | "CreateMultipartUpload"
        | "DeleteObject"
        | "DeleteObjects"
        | "PutObject"
        | "UploadPart" => Permission::ReadWrite,
        _ => Permission::FullAccess,
    }
}
