//! A relay before a store, which holds back what passes for as long as it is told, or loses it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

pub(crate) struct Relay {
    pub(crate) port: u16,
    /// Milliseconds for each piece, each way.
    pub(crate) delay: Arc<AtomicU64>,
    /// Whether what is said to the store is lost on the way.
    pub(crate) loses: Arc<AtomicBool>,
    /// Ends with it.
    _tasks: JoinSet<()>,
}

impl Relay {
    pub(crate) async fn before(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (delay, loses) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let mut tasks = JoinSet::new();
        let (held, lost) = (Arc::clone(&delay), Arc::clone(&loses));
        tasks.spawn(async move {
            let mut pipes = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await else { continue };
                let ((from, to), (back, forth)) = (client.into_split(), server.into_split());
                pipes.spawn(pipe(from, forth, Arc::clone(&held), Arc::clone(&lost)));
                pipes.spawn(pipe(back, to, Arc::clone(&held), Arc::default()));
            }
        });
        Self { port, delay, loses, _tasks: tasks }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

async fn pipe(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    delay: Arc<AtomicU64>,
    loses: Arc<AtomicBool>,
) {
    let mut buffer = vec![0; 16_384];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        tokio::time::sleep(Duration::from_millis(delay.load(Ordering::Relaxed))).await;
        if loses.load(Ordering::Relaxed) {
            continue;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
