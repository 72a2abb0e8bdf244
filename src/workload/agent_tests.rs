use std::convert::Infallible;

use http::Response;
use http_body_util::StreamBody;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Frame;
use hyper::service::service_fn;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::*;
use crate::workload::Agents;

/// `X509SVIDResponse` with one SVID of this ID, in its frame.
fn message(id: &str) -> Vec<u8> {
    let field = |number: u8, body: &[u8]| [&[number << 3 | 2, u8::try_from(body.len()).unwrap()][..], body].concat();
    let svid = [field(1, id.as_bytes()), field(2, b"CERT"), field(3, b"KEY"), field(4, b"ROOT")].concat();
    let body = field(1, &svid);
    [&[0][..], &u32::try_from(body.len()).unwrap().to_be_bytes(), &body].concat()
}

/// An agent that sends what is current, and whatever becomes so.
fn serve(socket: &Path, current: &watch::Sender<Vec<u8>>) -> JoinHandle<()> {
    let listener = UnixListener::bind(socket).unwrap();
    let current = current.subscribe();
    tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let mut current = current.clone();
            current.mark_changed();
            let answer = service_fn(move |request: Request<Incoming>| {
                let allowed = request.headers().get("workload.spiffe.io").is_some_and(|value| value == "true");
                assert!(allowed && request.uri().path() == "/SpiffeWorkloadAPI/FetchX509SVID");
                let updates = futures_util::stream::unfold(current.clone(), |mut current| async {
                    current.changed().await.ok()?;
                    let bytes = Bytes::from(current.borrow_and_update().clone());
                    Some((Ok::<_, Infallible>(Frame::data(bytes)), current))
                });
                let body: UnsyncBoxBody<Bytes, Infallible> = StreamBody::new(updates).boxed_unsync();
                async move { Ok::<_, Infallible>(Response::new(body)) }
            });
            connections.spawn(
                hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), answer),
            );
        }
    })
}

fn first_id(agent: &Agent) -> String {
    agent.latest().unwrap().svids[0].id.clone()
}

#[tokio::test]
async fn an_agent_is_asked_once_followed_and_found_again_after_it_was_gone() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("agent.sock");
    let (current, _) = watch::channel(message("spiffe://a.test/1"));
    let serving = serve(&socket, &current);
    let agent = Agents::default().at(&socket);
    agent.ready().await.unwrap();
    assert_eq!(first_id(&agent), "spiffe://a.test/1");

    let mut follower = Follower::new(agent.clone());
    current.send(message("spiffe://a.test/2")).unwrap();
    assert!(matches!(follower.next().await, Event::Renewed));
    assert_eq!(first_id(&agent), "spiffe://a.test/2");

    serving.abort();
    let _ = serving.await;
    std::fs::remove_file(&socket).unwrap();
    let Event::Gone(error) = follower.next().await else { panic!("the agent was not missed") };
    assert!(error.message.contains("agent.sock"), "{error}");
    // What it sent is still there, also for a reload.
    assert_eq!(agent.ready().await.unwrap().svids[0].id, "spiffe://a.test/2");

    // Nobody may be listening just now.
    current.send_replace(message("spiffe://a.test/3"));
    let _serving = serve(&socket, &current);
    assert!(matches!(follower.next().await, Event::Back));
    assert_eq!(first_id(&agent), "spiffe://a.test/3");
}

#[tokio::test]
async fn why_an_agent_gives_nothing_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let agents = Agents::default();
    let told = |path: PathBuf| {
        let agent = agents.at(&path);
        async move { agent.ready().await.err().unwrap() }
    };
    assert!(told(folder.path().join("none.sock")).await.message.contains("there is no such socket"));

    let dead = folder.path().join("dead.sock");
    drop(UnixListener::bind(&dead).unwrap());
    assert!(told(dead).await.message.contains("nobody listens there"));

    let socket = folder.path().join("refuses.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let answer = service_fn(|_: Request<Incoming>| async {
            let refused = Response::builder().header("grpc-status", "7").header("grpc-message", "no identity issued");
            Ok::<_, Infallible>(refused.body(Full::new(Bytes::new())).unwrap())
        });
        let _ =
            hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), answer).await;
    });
    let refused = told(socket).await;
    assert!(refused.message.contains("no identity for this process: no identity issued"), "{refused}");
    assert!(refused.help.contains("register gatepass"), "{}", refused.help);
}
