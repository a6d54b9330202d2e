//! `zepto-host --plugin k8s.wasm` in what looks like pods: a host name each, what Kubernetes mounts
//! and sets, and an API server that tells of them. Nothing else is said about discovery.

use rustix::process::Signal;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use zepto_apiserver::{Double, Pod, Resource, Slice};
use zepto_tests::harness::process::zepto_host;
use zepto_tests::harness::{
    Host, LONG, Process, SOON, Watchdog, cluster, eventually, skipped, system,
};

const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.pod";
/// As long as the shell lives, a host name of its own and a mounted service account, which the
/// machine does not see: `/run` is hidden behind one of the shell's own.
const POD: &str = r#"set -e
echo "$1" > /proc/sys/kernel/hostname
mount -t tmpfs none /run
mkdir -p /run/secrets/kubernetes.io
cp -r "$2" /run/secrets/kubernetes.io/serviceaccount
shift 2
exec "$@""#;

/// An API server, and pods whose ports are known before they are there.
struct Cluster {
    runtime: Runtime,
    double: Double,
    account: TempDir,
    data: TempDir,
    ports: Vec<u16>,
}

impl Cluster {
    /// One with an API server that knows of these pods; `None` where no namespaces can be made.
    fn new(pods: usize) -> Option<Self> {
        let makes_namespaces = system::works("unshare", &["--mount", "--uts", "true"]);
        if !system::is_root() || !makes_namespaces {
            skipped("pods, which need root, unshare and namespaces");
            return None;
        }
        let held: Vec<TcpListener> =
            (0..pods).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
        let ports: Vec<u16> =
            held.iter().map(|held| held.local_addr().expect("an address").port()).collect();
        let slices: Vec<(String, Slice)> = ports
            .iter()
            .enumerate()
            .map(|(i, port)| (format!("zepto-{i}abcd"), pod(i, *port)))
            .collect();
        let slices: Vec<(&str, Slice)> =
            slices.iter().map(|(name, slice)| (name.as_str(), slice.clone())).collect();
        let runtime = Runtime::new().expect("a runtime");
        let double = runtime.block_on(Double::start(TOKEN, &slices));
        let account = tempfile::tempdir().expect("a directory");
        let files = [("token", TOKEN), ("ca.crt", &double.authority.pem), ("namespace", "trading")];
        for (name, text) in files {
            fs::write(account.path().join(name), text).expect("a file");
        }
        let data = tempfile::tempdir().expect("a directory");
        Some(Self { runtime, double, account, data, ports })
    }

    /// Starts the node of a pod, which may not serve before others do.
    fn start(&self, i: usize) -> Process {
        let name = format!("zepto-{i}");
        let data_dir = self.data.path().join(&name);
        let (listen, data_dir) =
            (format!("127.0.0.1:{}", self.ports[i]), data_dir.to_string_lossy());
        let node = zepto_host(["--plugin", "k8s.wasm", "--expect", "3", "--profile", "fast"]);
        let mut command = Command::new("unshare");
        command.args(["--mount", "--uts", "sh", "-c", POD, "sh", &name]).arg(self.account.path());
        command.arg(node.get_program()).args(node.get_args());
        command.args(["--listen", &listen, "--data-dir", &data_dir]);
        command.args(["--announce", "--exit-with-stdin"]);
        command.env("KUBERNETES_SERVICE_HOST", "127.0.0.1");
        command.env("KUBERNETES_SERVICE_PORT", self.double.address.port().to_string());
        Process::spawn(command)
    }

    fn serving(&self, i: usize, process: Process) -> Host {
        Host::serving(&format!("zepto-{i}"), process)
    }
}

/// A slice with one pod of this machine.
fn pod(i: usize, port: u16) -> Slice {
    Slice::of([Pod::new(&format!("zepto-{i}"), "127.0.0.1")]).on(port)
}

fn forms(is_old: bool) {
    let _watchdog = Watchdog::new(LONG);
    let Some(pods) = Cluster::new(4) else { return };
    // The fourth is not there yet.
    pods.double.remove("zepto-3abcd");
    pods.double.store().has_slices = !is_old;
    let starting: Vec<Process> = (0..3).map(|i| pods.start(i)).collect();
    let nodes: Vec<Host> =
        starting.into_iter().enumerate().map(|(i, process)| pods.serving(i, process)).collect();
    for node in &nodes {
        cluster::wait_balanced(node, 3);
        let status = node.status();
        assert_eq!(status["plugins"][0]["nodes"], 2, "{status}");
        assert_eq!(status["cluster"], nodes[0].status()["cluster"]);
        assert!(node.process.stderr().contains("granted to the stock module"));
        assert!(!node.process.stderr().contains(TOKEN), "a secret in the log");
    }
    let asked = if is_old { Resource::Endpoints } else { Resource::EndpointSlices };
    let watches = |seen: &zepto_apiserver::Seen| {
        seen.is_watch && seen.code == 200 && seen.resource == Some(asked)
    };
    pods.runtime.block_on(pods.double.wait_seen("a watch of each", |seen| {
        seen.iter().filter(|seen| watches(seen)).count() >= 3
    }));

    pods.double.put("zepto-3abcd", pod(3, pods.ports[3]));
    let fourth = pods.serving(3, pods.start(3));
    cluster::wait_balanced(&fourth, 4);
    // Who is no longer ready is not gone: members are what the nodes themselves hear. One of three
    // is more than an answer may remove by itself.
    let told = |node: &Host| node.status()["plugins"][0].clone();
    let knows = |node: &Host, count| (told(node)["nodes"] == count).then_some(());
    eventually("three others are known", SOON, || knows(&nodes[0], 3));
    pods.double.remove("zepto-3abcd");
    eventually("its removal is held", SOON, || (!told(&nodes[0])["held"].is_null()).then_some(()));
    pods.double.end_watches();
    let members = nodes[0].status()["members"].clone();
    let members = members.as_array().expect("members");
    assert_eq!(members.len(), 4);
    assert!(members.iter().all(|member| member["state"] == "ACTIVE"), "{members:?}");
    for node in nodes.into_iter().chain([fourth]) {
        node.process.signal(Signal::TERM);
        node.process.wait(SOON).code(0);
    }
}

#[test]
fn pods_behind_a_service_are_one_cluster_with_nothing_said_but_the_plugin() {
    forms(false);
}

#[test]
fn on_a_cluster_without_endpoint_slices_they_are_too() {
    forms(true);
}

#[test]
fn a_pod_without_its_account_says_what_is_missing() {
    let _watchdog = Watchdog::new(LONG);
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = zepto_host(["--plugin", "k8s.wasm", "--node-id", "zepto-0"]);
    command.arg("--data-dir").arg(directory.path().join("data"));
    command.env("KUBERNETES_SERVICE_HOST", "127.0.0.1").env("KUBERNETES_SERVICE_PORT", "1");
    if Path::new("/var/run/secrets/kubernetes.io").exists() {
        skipped("what a pod without an account says: this is a pod");
        return;
    }
    Process::spawn(command).wait(SOON).code(2).says(&["serviceaccount/namespace", "outside a pod"]);
}
