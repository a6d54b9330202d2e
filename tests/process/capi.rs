//! C and C++ programs that link libzepto, as their authors build them, against real clusters.

use core::hash::BuildHasher;
use core::time::Duration;
use rustix::process::Signal;
use std::fs;
use std::hash::RandomState;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use zepto_tests::harness::{
    Cluster, Ended, LONG, Process, SOON, Watchdog, binary, data, eventually, now, run, skipped,
    system,
};

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").to_owned()
}

/// Where libzepto is installed as its users install it: beside what was built, for it is large.
fn prefix() -> &'static Path {
    static PREFIX: OnceLock<PathBuf> = OnceLock::new();
    PREFIX.get_or_init(|| {
        let library = binary::built("libzepto.so", "zepto-capi");
        let target = library.parent().expect("target/ci");
        let prefix = target.join("capi-prefix");
        let mut command = Command::new(top().join("host/capi/install.sh"));
        command.arg("--prefix").arg(&prefix).arg("--from").arg(target);
        let output = command.output().expect("bash");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        prefix
    })
}

/// Builds a program of one source, with what pkg-config would say.
fn build(directory: &Path, compiler: &str, source: &str, flags: &[&str]) -> PathBuf {
    let source = top().join(source);
    let stem = source.file_stem().expect("a name").to_string_lossy().into_owned();
    let program = directory.join(format!("{stem}-{}", compiler.replace('+', "p")));
    let is_cpp = source.extension().is_some_and(|extension| extension == "cpp");
    let mut command = Command::new(compiler);
    command.arg(if is_cpp { "-std=c++17" } else { "-std=c11" });
    command.args(["-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread"]).args(flags);
    command.arg("-I").arg(prefix().join("include")).arg(&source).arg("-o").arg(&program);
    command.arg("-L").arg(prefix().join("lib")).arg("-lzepto");
    command.arg(format!("-Wl,-rpath,{}", prefix().join("lib").display()));
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    program
}

/// A plugin that does nothing by itself.
fn plugin() -> String {
    top().join("plugins/migrate-steady/migrate-steady.wasm").display().to_string()
}

fn program(path: &Path, arguments: &[&str]) -> Process {
    let mut command = Command::new(path);
    command.args(arguments);
    Process::spawn(command)
}

#[track_caller]
fn runs(path: &Path, arguments: &[&str]) -> Ended {
    program(path, arguments).wait(LONG).code(0)
}

/// Pairs of compilers that are here, and flags: plain ones, and one with sanitizers.
fn compilers() -> Vec<(&'static str, &'static str, &'static [&'static str])> {
    let all: [(_, _, &[&str]); 3] = [
        ("cc", "c++", &[]),
        ("clang", "clang++", &[]),
        ("gcc", "g++", &["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]),
    ];
    let here = |(c, cpp, _): &(&str, &str, &[&str])| {
        let both = system::works(c, &["--version"]) && system::works(cpp, &["--version"]);
        if !both {
            skipped(&format!("examples with {c}, which is not here"));
        }
        both
    };
    all.into_iter().filter(here).collect()
}

#[test]
fn the_examples_do_what_they_say_with_every_compiler() {
    let _watchdog = Watchdog::new(LONG * 3);
    for (c, cpp, flags) in compilers() {
        let directory = tempfile::tempdir().expect("a directory");
        let built = |source: &str| {
            let compiler = if source.ends_with(".cpp") { cpp } else { c };
            build(directory.path(), compiler, &format!("c-examples/{source}"), flags)
        };
        let cluster = Cluster::start(&[]);
        let at = cluster.nodes[1].address.clone();
        let fed = runs(&built("feed.c"), &[&at]);
        let want = "accepted 100000, acknowledged 100000, refused 0\n\
                    demo:ONE: 100000 trades, vwap 104.500000000\n";
        assert_eq!(fed.stdout, want);
        let made = data::make(directory.path(), 20_000);
        let file = made.file.to_string_lossy().into_owned();
        let fed = runs(&built("feed.cpp"), &[&at, &file]);
        assert_eq!(fed.stdout, "accepted 20000, acknowledged 20000, refused 0\n");
        let asked = runs(&built("query.cpp"), &[&at, "demo:ONE"]);
        let want = "trades 100000, open 100.000000000, high 109.000000000, low 100.000000000, \
                    close 109.000000000, vwap 104.500000000\n\
                    bars 1, with 100000 trades\n\
                    last 109.000000000 at 1723075200099999000\n\
                    ticks 100000 in 10 pages\n";
        assert_eq!(asked.stdout, want);
        let watched = runs(&built("watch.c"), &[&at, "0"]);
        assert_eq!(
            watched.stdout.matches(" ACTIVE at 127.0.0.1:").count(),
            3,
            "{}",
            watched.stdout
        );
        let node = built("node.cpp");
        for more in [&[][..], &["100000", "polled"]] {
            let owned = tempfile::tempdir().expect("a directory");
            let owned = owned.path().join("node").to_string_lossy().into_owned();
            let node = runs(&node, &[&[owned.as_str()], more].concat());
            let want = "accepted 100000, acknowledged 100000, last tick there\ncounted 100000\n";
            assert_eq!(node.stdout, want);
        }
    }
}

#[test]
fn a_feed_handler_in_cpp_gives_the_same_as_the_feed_command() {
    let _watchdog = Watchdog::new(LONG);
    let directory = tempfile::tempdir().expect("a directory");
    let cluster = Cluster::start(&[]);
    let made = data::make(cluster.path(), 100_000);
    let handler = build(directory.path(), "c++", "c-examples/feed.cpp", &[]);
    let file = made.file.to_string_lossy().into_owned();
    let fed = runs(&handler, &[&cluster.nodes[0].address, &file]);
    assert_eq!(fed.stdout, "accepted 100000, acknowledged 100000, refused 0\n");
    for node in &cluster.nodes {
        assert_eq!(node.summary(), made.expected);
    }
    let bad = directory.path().join("bad.csv");
    fs::write(&bad, "ts_ns,symbol,kind,price,size\n1,a,trade,1.0000000001,1\n").expect("a file");
    let refused = program(&handler, &[&cluster.nodes[0].address, &bad.to_string_lossy()]);
    refused.wait(SOON).code(1).says(&["line 2", "9 decimals"]);
}

#[test]
fn the_interface_answers_whatever_is_done_with_it() {
    let _watchdog = Watchdog::new(LONG);
    for (c, _, flags) in compilers() {
        let directory = tempfile::tempdir().expect("a directory");
        let abi = build(directory.path(), c, "host/capi/tests/c/abi.c", flags);
        let data = directory.path().join("node").to_string_lossy().into_owned();
        let ended = runs(&abi, &[&data, &plugin()]);
        assert!(ended.stdout.contains("all is as the header says"), "{}", ended.stdout);
    }
}

#[test]
fn ten_thousand_handles_leave_nothing_behind() {
    let _watchdog = Watchdog::new(LONG);
    let directory = tempfile::tempdir().expect("a directory");
    let abi = build(directory.path(), "cc", "host/capi/tests/c/abi.c", &[]);
    let data = directory.path().join("node").to_string_lossy().into_owned();
    let ended = runs(&abi, &[&data, "cycles", "10000"]);
    assert!(ended.stdout.contains("10000 cycles"), "{}", ended.stdout);
}

#[test]
fn nodes_over_ucx_in_a_cpp_program_leave_its_signals_alone() {
    let _watchdog = Watchdog::new(LONG * 3);
    let directory = tempfile::tempdir().expect("a directory");
    let nodes = build(directory.path(), "c++", "host/capi/tests/c/ucx.cpp", &[]);
    let run = |directory: PathBuf, more: &[&str], lanes: &str| {
        let mut command = Command::new(&nodes);
        command.arg(directory).args(more).env("UCX_TLS", lanes).env("UCX_LOG_FILE", "stderr");
        Process::spawn(command).wait(LONG).code(0).stdout
    };
    for lanes in ["shm", "tcp", "tcp,shm"] {
        let owned = tempfile::tempdir().expect("a directory");
        let want = "acknowledged 100000, counted 100000\nsignals are as they were\n";
        assert_eq!(run(owned.path().join("stopped"), &[], lanes), want, "over {lanes}");
        let want = "acknowledged 1000, counted 1000\n";
        let said = run(owned.path().join("left"), &["1000", "leave"], lanes);
        assert_eq!(said, want, "over {lanes}");
    }
}

#[test]
fn valgrind_finds_nothing_in_a_program_that_feeds() {
    let _watchdog = Watchdog::new(LONG);
    if !system::works("valgrind", &["--version"]) {
        skipped("libzepto under valgrind, which is not here");
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let cluster = Cluster::start(&["--copies", "1"]);
    let feed = build(directory.path(), "cc", "c-examples/feed.c", &[]);
    let mut command = Command::new("valgrind");
    command.args(["--error-exitcode=99", "--leak-check=full", "--show-leak-kinds=definite"]);
    command.args(["--errors-for-leak-kinds=definite", "--quiet"]).arg(&feed);
    command.args([&cluster.nodes[0].address, "valgrind:ONE", "2000"]);
    let ended = Process::spawn(command).wait(LONG).code(0);
    assert!(ended.stdout.contains("acknowledged 2000"), "{}", ended.stdout);
}

#[test]
fn cmake_finds_the_package_and_builds_the_examples() {
    let _watchdog = Watchdog::new(LONG);
    if !system::works("cmake", &["--version"]) {
        skipped("the CMake package, without cmake");
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let build = directory.path().join("build");
    let run = |command: &mut Command| {
        let output = command.output().expect("cmake");
        let text = [&output.stdout[..], &output.stderr].concat();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&text));
    };
    let prefix_path = format!("-DCMAKE_PREFIX_PATH={}", prefix().display());
    let examples = top().join("c-examples");
    run(Command::new("cmake").arg("-S").arg(examples).arg("-B").arg(&build).arg(prefix_path));
    run(Command::new("cmake").arg("--build").arg(&build));
    for program in ["node_cpp", "node_static"] {
        let data = directory.path().join(format!("of-{program}")).to_string_lossy().into_owned();
        let node = runs(&build.join(program), &[&data, "1000"]);
        assert!(node.stdout.contains("counted 1000"), "{}", node.stdout);
    }
    // The plugins that it built are plugins.
    for name in ["discovery_plugin_c.so", "discovery_plugin_cpp.so"] {
        let plugin = build.join(name).to_string_lossy().into_owned();
        zepto_tests::harness::run(["plugin", "check", &plugin], SOON).code(0);
    }
}

/// What pkg-config says, or nothing where it is not.
fn pkg_config(arguments: &[&str]) -> Option<Vec<String>> {
    if !system::works("pkg-config", &["--version"]) {
        skipped("the pkg-config file, without pkg-config");
        return None;
    }
    let mut command = Command::new("pkg-config");
    command.env("PKG_CONFIG_PATH", prefix().join("lib/pkgconfig")).args(arguments);
    let output = command.arg("zepto >= 1.0").output().expect("pkg-config");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    Some(text.split_whitespace().map(str::to_owned).collect())
}

#[test]
fn a_program_is_linked_as_pkg_config_says_with_the_library_beside_it_or_inside() {
    let _watchdog = Watchdog::new(LONG);
    for is_static in [false, true] {
        let more: &[&str] = if is_static { &["--static"] } else { &[] };
        let Some(flags) = pkg_config(&[&["--cflags", "--libs"], more].concat()) else { return };
        let directory = tempfile::tempdir().expect("a directory");
        let program = directory.path().join("abi");
        let mut command = Command::new("cc");
        command.args(["-std=c11", "-pthread", "-o"]).arg(&program);
        command.arg(top().join("host/capi/tests/c/abi.c"));
        // The linker takes the shared library where it finds both.
        let inside = |flag: String| {
            if is_static && flag == "-lzepto" { "-l:libzepto.a".into() } else { flag }
        };
        command.args(flags.into_iter().map(inside));
        let output = command.output().expect("cc");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut command = Command::new(&program);
        command.arg(directory.path().join("node")).arg(plugin());
        if !is_static {
            command.env("LD_LIBRARY_PATH", prefix().join("lib"));
        }
        let ended = Process::spawn(command).wait(LONG).code(0);
        assert!(ended.stdout.contains("all is as the header says"), "{}", ended.stdout);
    }
}

#[test]
fn a_watch_shows_who_goes_and_who_comes() {
    let _watchdog = Watchdog::new(LONG);
    let directory = tempfile::tempdir().expect("a directory");
    let mut cluster = Cluster::fast();
    let watch = build(directory.path(), "cc", "c-examples/watch.c", &[]);
    let watching = program(&watch, &[&cluster.nodes[0].address, "600"]);
    let shows = |what: &str| {
        eventually(&format!("it shows {what:?}"), SOON, || {
            watching.stdout().contains(what).then_some(())
        });
    };
    shows(" c ACTIVE at ");
    let old = cluster.take("c");
    let life = old.address.clone();
    old.kill();
    shows(&format!(" c DEAD at {life}"));
    let new = cluster.node("c");
    let address = new.address.clone();
    cluster.nodes.push(new);
    shows(&format!(" c ACTIVE at {address}"));
    cluster.take("c").stop(SOON).code(0);
    shows(&format!(" c DEAD at {address}"));
    // Every change once, and none before the one that came before it.
    let text = watching.stdout();
    let indexes: Vec<u64> = text
        .lines()
        .filter_map(|line| line.strip_prefix("index ")?.split_once(':')?.0.parse().ok())
        .collect();
    assert!(indexes.len() > 3 && indexes.is_sorted_by(|a, b| a < b), "{indexes:?}");
    watching.signal(Signal::KILL);
}

/// A program dies at any moment: what it was told is acknowledged is there, and nothing is twice.
#[test]
fn a_producer_in_cpp_that_is_killed_loses_nothing_that_was_acknowledged() {
    let _watchdog = Watchdog::new(LONG * 2);
    let directory = tempfile::tempdir().expect("a directory");
    let killed = build(directory.path(), "c++", "host/capi/tests/c/killed.cpp", &["-O2"]);
    let cluster = Cluster::start(&["--memory", "512MiB"]);
    let at = cluster.nodes[0].address.as_str();
    let (mut acknowledged, mut there) = (0, 0);
    for round in 0..100u64 {
        let symbol = format!("killed:{round}");
        let sending = program(&killed, &["send", at, &symbol]);
        // From before it has a lane to some thousands of ticks.
        let pause = Duration::from_micros(RandomState::new().hash_one(round) % 40_000);
        println!("round {round}: killed after {pause:?}");
        if round % 4 > 0 {
            eventually("it has begun", SOON, || (!sending.stdout().is_empty()).then_some(()));
        }
        let until = now() + pause;
        while now() < until {
            std::hint::spin_loop();
        }
        sending.signal(Signal::KILL);
        let ended = sending.wait(SOON).killed_by(Signal::KILL);
        let lines = ended.stdout.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let told: u64 = lines.lines().next_back().map_or(0, |line| line.parse().expect("it"));
        let found = runs(&killed, &["check", at, &symbol, &told.to_string()]);
        acknowledged += told;
        there += found.stdout.trim().parse::<u64>().expect("a number");
    }
    println!("100 kills: {acknowledged} ticks were acknowledged, {there} are there");
    assert!(acknowledged > 0 && there >= acknowledged);
    run(["status", "--at", at], SOON).code(0);
}
