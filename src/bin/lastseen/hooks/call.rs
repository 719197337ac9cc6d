//! One call of a hook: a program that reads the event, or a POST of it.

use std::time::Duration;

use crate::program::run;
use crate::settings::Action;

/// Why a call is no success.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Failed(String),
    Timeout,
}

/// Calls with `event`, one line of JSON, and waits for the end, at most for `limit`.
pub(super) async fn call(action: &Action, event: String, limit: Duration) -> Result<(), Failure> {
    let called = async {
        match action {
            Action::Command(words) => run(words, event).await,
            Action::Post(url) => post(url.clone(), event, limit).await,
        }
    };
    // What is dropped at the limit is killed.
    let ended = tokio::time::timeout(limit, called).await;
    ended.map_err(|_| Failure::Timeout)?.map_err(Failure::Failed)
}

/// Posts it. Where that is redirected to, or what a proxy does, is nothing that the operator wrote.
async fn post(url: String, event: String, limit: Duration) -> Result<(), String> {
    let posted = tokio::task::spawn_blocking(move || {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            // The thread ends soon after nobody waits for it any more.
            .timeout_global(Some(limit + Duration::from_secs(1)))
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .user_agent(concat!("lastseen/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        agent.post(url).header("content-type", "application/json").send(event)
    });
    let answer = posted.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    if answer.status().is_success() { Ok(()) } else { Err(format!("is answered with {}", answer.status())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn a_program_that_takes_too_long_is_given_up() {
        let command = |script: &str| Action::Command(["/bin/sh", "-c", script].map(str::to_owned).to_vec());
        let called = call(&command("exec sleep 600"), String::new(), Duration::from_millis(200)).await;
        assert_eq!(called, Err(Failure::Timeout));
        assert_eq!(call(&command("read line"), "{}\n".to_owned(), LONG).await, Ok(()));
        let failed = call(&command("exit 7"), String::new(), LONG).await;
        assert_eq!(failed, Err(Failure::Failed("ended with exit status: 7".to_owned())));
    }

    #[tokio::test]
    async fn a_server_that_does_not_answer_is_given_up() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let to = |address: std::net::SocketAddr| Action::Post(format!("http://{address}/"));
        let address = silent.local_addr().unwrap();
        let posted = call(&to(address), String::new(), Duration::from_millis(200)).await;
        assert_eq!(posted, Err(Failure::Timeout));
        drop(silent);
        let posted = call(&to(address), String::new(), LONG).await;
        assert!(matches!(&posted, Err(Failure::Failed(why)) if why.contains("refused")), "{posted:?}");
    }
}
