//! Polling with a time limit.

use std::time::{Duration, Instant};

/// Calls `look`, with a `pause` between two looks, until it has found something; none once `patience` has passed
/// without.
///
/// # Errors
/// The first that `look` returns: what may pass by itself it returns none for.
pub async fn poll_until<T, E>(
    patience: Duration,
    pause: Duration,
    mut look: impl AsyncFnMut() -> Result<Option<T>, E>,
) -> Result<Option<T>, E> {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await? {
            return Ok(Some(found));
        }
        if begun.elapsed() + pause > patience {
            return Ok(None);
        }
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_ends_with_what_is_found_or_with_an_error_or_in_vain() {
        let (patience, pause) = (Duration::from_millis(20), Duration::from_millis(1));
        let mut looks = 0;
        let found = poll_until(patience, pause, async || {
            looks += 1;
            Ok::<_, String>((looks == 3).then_some(looks))
        });
        assert_eq!(found.await, Ok(Some(3)));
        let failed = poll_until(patience, pause, async || Err::<Option<()>, _>("no"));
        assert_eq!(failed.await, Err("no"));
        let vain = poll_until(patience, pause, async || Ok::<Option<()>, String>(None));
        assert_eq!(vain.await, Ok(None));
    }
}
