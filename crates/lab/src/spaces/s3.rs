//! The store in S3's words: what pgBackRest and tools for looking at a bucket ask.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use axum::body::Bytes;
use futures_core::Stream;
use http::Extensions;
use s3s::dto::*;
use s3s::stream::{ByteStream, RemainingLength};
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, StdError, s3_error};

use super::store::{self, Incoming, Query, Refusal, Store};

/// Keys on a page, at most and if not said.
const PAGE: usize = 1000;

/// The largest number of a part.
const PARTS: i32 = 10_000;

/// Bytes that are read from a file at once.
const CHUNK: usize = 64 * 1024;

/// What all buckets may hold: an extension of the request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit(pub(super) u64);

/// The server's side of S3.
pub(super) struct Buckets(pub(super) Arc<Store>);

impl Buckets {
    async fn receive(&self, body: Option<StreamingBlob>) -> S3Result<Incoming> {
        let mut incoming = self.0.incoming().map_err(Refusal::from)?;
        if let Some(mut body) = body {
            while let Some(bytes) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_next(cx)).await {
                // Into the page cache: not worth a thread.
                incoming.write(&bytes.map_err(incomplete)?).map_err(Refusal::from)?;
            }
        }
        Ok(incoming)
    }
}

fn incomplete(source: StdError) -> S3Error {
    S3Error::with_source(S3ErrorCode::IncompleteBody, source)
}

fn limit(extensions: &Extensions) -> Option<u64> {
    extensions.get::<Limit>().map(|limit| limit.0)
}

impl From<Refusal> for S3Error {
    fn from(refusal: Refusal) -> Self {
        let code = match &refusal {
            Refusal::NoSuchBucket => S3ErrorCode::NoSuchBucket,
            Refusal::BucketExists => S3ErrorCode::BucketAlreadyOwnedByYou,
            Refusal::BucketNotEmpty => S3ErrorCode::BucketNotEmpty,
            Refusal::NoSuchKey => S3ErrorCode::NoSuchKey,
            Refusal::NoSuchUpload => S3ErrorCode::NoSuchUpload,
            Refusal::InvalidPart => S3ErrorCode::InvalidPart,
            Refusal::InvalidPartOrder => S3ErrorCode::InvalidPartOrder,
            Refusal::Full => S3ErrorCode::Custom("QuotaExceeded".into()),
            Refusal::Io(_) => S3ErrorCode::InternalError,
        };
        let mut error = S3Error::with_message(code, refusal.to_string());
        if matches!(refusal, Refusal::Full) {
            error.set_status_code(http::StatusCode::FORBIDDEN);
        }
        error
    }
}

fn time(millis: i64) -> Timestamp {
    Timestamp::from(UNIX_EPOCH + Duration::from_millis(millis.unsigned_abs()))
}

fn etag(object: &store::Object) -> Option<ETag> {
    Some(ETag::Strong(object.etag.clone()))
}

fn done<T>(output: T) -> S3Result<S3Response<T>> {
    Ok(S3Response::new(output))
}

fn part_number(number: i32) -> S3Result<u32> {
    match u32::try_from(number) {
        Ok(part) if (1..=PARTS).contains(&number) => Ok(part),
        _ => Err(s3_error!(InvalidArgument, "the number of a part is between 1 and {PARTS}")),
    }
}

#[async_trait]
impl S3 for Buckets {
    async fn list_buckets(&self, _: S3Request<ListBucketsInput>) -> S3Result<S3Response<ListBucketsOutput>> {
        let buckets = self.0.buckets().into_iter().map(|(name, created)| Bucket {
            name: Some(name),
            creation_date: Some(time(created)),
            ..Bucket::default()
        });
        done(ListBucketsOutput { buckets: Some(buckets.collect()), ..ListBucketsOutput::default() })
    }

    async fn create_bucket(
        &self,
        request: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        let bucket = request.input.bucket;
        self.0.create_bucket(&bucket)?;
        done(CreateBucketOutput { location: Some(format!("/{bucket}")) })
    }

    async fn delete_bucket(
        &self,
        request: S3Request<DeleteBucketInput>,
    ) -> S3Result<S3Response<DeleteBucketOutput>> {
        self.0.delete_bucket(&request.input.bucket)?;
        done(DeleteBucketOutput::default())
    }

    async fn head_bucket(
        &self,
        request: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        match self.0.has_bucket(&request.input.bucket) {
            true => done(HeadBucketOutput::default()),
            false => Err(Refusal::NoSuchBucket.into()),
        }
    }

    async fn get_bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        match self.0.has_bucket(&request.input.bucket) {
            true => done(GetBucketLocationOutput::default()),
            false => Err(Refusal::NoSuchBucket.into()),
        }
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        let after = input.continuation_token.as_ref().or(input.start_after.as_ref());
        let query = Query {
            prefix: input.prefix.as_deref().unwrap_or_default(),
            delimiter: input.delimiter.as_deref().unwrap_or_default(),
            after: after.map_or("", String::as_str),
            most: input.max_keys.map_or(PAGE, |most| usize::try_from(most).unwrap_or(0).min(PAGE)),
        };
        let page = self.0.list(&input.bucket, query)?;
        let count = page.objects.len() + page.prefixes.len();
        let contents = page.objects.into_iter().map(|(key, object)| Object {
            e_tag: etag(&object),
            key: Some(key),
            last_modified: Some(time(object.modified)),
            size: Some(object.size.cast_signed()),
            ..Object::default()
        });
        let prefixes = page.prefixes.into_iter().map(|prefix| CommonPrefix { prefix: Some(prefix) });
        done(ListObjectsV2Output {
            contents: Some(contents.collect()),
            common_prefixes: Some(prefixes.collect()),
            is_truncated: Some(page.next.is_some()),
            next_continuation_token: page.next,
            key_count: i32::try_from(count).ok(),
            max_keys: i32::try_from(query.most).ok(),
            name: Some(input.bucket),
            prefix: input.prefix,
            delimiter: input.delimiter,
            continuation_token: input.continuation_token,
            start_after: input.start_after,
            ..ListObjectsV2Output::default()
        })
    }

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let limit = limit(&request.extensions);
        let input = request.input;
        if !self.0.has_bucket(&input.bucket) {
            return Err(Refusal::NoSuchBucket.into());
        }
        let incoming = self.receive(input.body).await?;
        let object = self.0.put(&input.bucket, &input.key, incoming, limit)?;
        done(PutObjectOutput { e_tag: etag(&object), ..PutObjectOutput::default() })
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let object = self.0.head(&request.input.bucket, &request.input.key)?;
        done(HeadObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            content_length: Some(object.size.cast_signed()),
            e_tag: etag(&object),
            last_modified: Some(time(object.modified)),
            ..HeadObjectOutput::default()
        })
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        let (object, mut file) = self.0.get(&input.bucket, &input.key)?;
        let asked = match input.range {
            Some(range) => range.check(object.size)?,
            None => 0..object.size,
        };
        file.seek(SeekFrom::Start(asked.start)).map_err(Refusal::from)?;
        let content_range =
            input.range.map(|_| format!("bytes {}-{}/{}", asked.start, asked.end - 1, object.size));
        let length = asked.end - asked.start;
        done(GetObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            body: Some(StreamingBlob::new(Content { file, left: length })),
            content_length: Some(length.cast_signed()),
            content_range,
            e_tag: etag(&object),
            last_modified: Some(time(object.modified)),
            ..GetObjectOutput::default()
        })
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.0.delete(&request.input.bucket, &request.input.key)?;
        done(DeleteObjectOutput::default())
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let DeleteObjectsInput { bucket, delete, .. } = request.input;
        let mut deleted = Vec::new();
        for object in delete.objects {
            self.0.delete(&bucket, &object.key)?;
            deleted.push(DeletedObject { key: Some(object.key), ..DeletedObject::default() });
        }
        let quiet = delete.quiet.unwrap_or_default();
        done(DeleteObjectsOutput { deleted: (!quiet).then_some(deleted), ..DeleteObjectsOutput::default() })
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let CreateMultipartUploadInput { bucket, key, .. } = request.input;
        let id = self.0.begin_upload(&bucket, &key)?;
        done(CreateMultipartUploadOutput {
            bucket: Some(bucket),
            key: Some(key),
            upload_id: Some(id),
            ..CreateMultipartUploadOutput::default()
        })
    }

    async fn upload_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let limit = limit(&request.extensions);
        let UploadPartInput { bucket, key, upload_id, part_number: number, body, .. } = request.input;
        let number = part_number(number)?;
        let incoming = self.receive(body).await?;
        let part = self.0.put_part(&bucket, &key, &upload_id, number, incoming, limit)?;
        done(UploadPartOutput { e_tag: etag(&part), ..UploadPartOutput::default() })
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let limit = limit(&request.extensions);
        let CompleteMultipartUploadInput { bucket, key, upload_id, multipart_upload, .. } = request.input;
        let named = multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        let mut wanted = Vec::new();
        for part in named {
            let etag = part.e_tag.map(|etag| etag.value().to_owned()).unwrap_or_default();
            wanted.push((part_number(part.part_number.unwrap_or_default())?, etag));
        }
        let (store, of, to) = (Arc::clone(&self.0), bucket.clone(), key.clone());
        // It copies all parts.
        let completed =
            tokio::task::spawn_blocking(move || store.complete_upload(&of, &to, &upload_id, &wanted, limit));
        let object = completed.await.map_err(S3Error::internal_error)??;
        done(CompleteMultipartUploadOutput {
            bucket: Some(bucket),
            e_tag: etag(&object),
            key: Some(key),
            ..CompleteMultipartUploadOutput::default()
        })
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let AbortMultipartUploadInput { bucket, key, upload_id, .. } = request.input;
        self.0.abort_upload(&bucket, &key, &upload_id)?;
        done(AbortMultipartUploadOutput::default())
    }
}

/// Part of a file, as it is sent.
struct Content {
    file: File,
    left: u64,
}

impl Stream for Content {
    type Item = Result<Bytes, StdError>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.left == 0 {
            return Poll::Ready(None);
        }
        let mut chunk = vec![0; CHUNK.min(usize::try_from(this.left).unwrap_or(CHUNK))];
        // From the page cache, or from a disk that does not take long.
        Poll::Ready(Some(match this.file.read_exact(&mut chunk) {
            Ok(()) => {
                this.left -= chunk.len() as u64;
                Ok(chunk.into())
            }
            Err(error) => {
                this.left = 0;
                Err(error.into())
            }
        }))
    }
}

impl ByteStream for Content {
    fn remaining_length(&self) -> RemainingLength {
        usize::try_from(self.left).map_or_else(|_| RemainingLength::unknown(), RemainingLength::new_exact)
    }
}
