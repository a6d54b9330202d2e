//! The data directory: whose it is, and everything it refuses without touching a file.

use super::*;
use std::os::unix::fs::{PermissionsExt, symlink};
use tempfile::TempDir;

fn scratch() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    (directory, path)
}

fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

fn with_identity(text: &str) -> (TempDir, PathBuf) {
    let (directory, path) = scratch();
    fs::create_dir(&path).unwrap();
    fs::write(path.join(IDENTITY_FILE), text).unwrap();
    (directory, path)
}

#[test]
fn a_missing_directory_is_made_for_this_user_only() {
    let (_directory, path) = scratch();
    let data = DataDir::open(&path, "a").unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(names(&path), [IDENTITY_FILE, LOCK_FILE]);
    assert_eq!((data.node(), data.cluster(), data.incarnation()), ("a", None, Incarnation(0)));
    assert!(!data.has_log().unwrap());
    fs::write(data.log_path(), b"").unwrap();
    assert!(data.has_log().unwrap());
}

#[test]
fn incarnations_grow_across_starts_and_with_a_clock_that_goes_back() {
    let (_directory, path) = scratch();
    let mut last = Incarnation(0);
    for now in [1000, 5000, 10, 5001, 0, u64::from(u32::MAX)] {
        let mut data = DataDir::open(&path, "a").unwrap();
        assert_eq!(data.incarnation(), last, "what was issued is on disk");
        let next = data.next_incarnation(now).unwrap();
        assert!(next > last && next.0 >= now, "{next} after {last} at {now}");
        last = next;
    }
}

#[test]
fn an_incarnation_out_of_range_is_refused() {
    let (_directory, path) = scratch();
    let mut data = DataDir::open(&path, "a").unwrap();
    let far = data.next_incarnation(u64::MAX);
    assert!(matches!(far, Err(DataDirError::Invalid(_))));
    data.next_incarnation(i64::MAX as u64).unwrap();
    assert!(matches!(data.next_incarnation(1), Err(DataDirError::Invalid(_))));
    drop(data);
    assert_eq!(DataDir::open(&path, "a").unwrap().incarnation(), Incarnation(i64::MAX as u64));
}

#[test]
fn the_cluster_is_set_once() {
    let (_directory, path) = scratch();
    let mut data = DataDir::open(&path, "a").unwrap();
    assert!(matches!(data.set_cluster(0), Err(DataDirError::Invalid(_))));
    data.set_cluster(0xABC).unwrap();
    data.set_cluster(0xABC).unwrap();
    drop(data);
    let mut data = DataDir::open(&path, "a").unwrap();
    assert_eq!(data.cluster(), Some(0xABC));
    let text = data.set_cluster(0xDEF).unwrap_err().to_string();
    assert!(text.contains(&format!("{:032x}", 0xABC)), "{text}");
    assert!(text.contains(&format!("{:032x}", 0xDEF)), "{text}");
    assert_eq!(data.cluster(), Some(0xABC));
}

#[test]
fn one_directory_is_one_hosts_at_a_time() {
    let (_directory, path) = scratch();
    let first = DataDir::open(&path, "a").unwrap();
    let error = DataDir::open(&path, "a").unwrap_err();
    assert!(error.to_string().ends_with("in use by another zepto-host"), "{error}");
    drop(first);
    DataDir::open(&path, "a").unwrap();
}

#[test]
fn another_nodes_directory_is_not_taken() {
    let (_directory, path) = scratch();
    drop(DataDir::open(&path, "a").unwrap());
    let text = DataDir::open(&path, "b").unwrap_err().to_string();
    assert!(text.contains(r#"node "a""#) && text.contains(r#"node "b""#), "{text}");
    assert_eq!(DataDir::open(&path, "a").unwrap().node(), "a");
}

#[test]
fn a_directory_with_other_files_is_neither_taken_nor_touched() {
    for files in [&["notes.txt"][..], &[LOG_FILE], &[LOCK_FILE, "other"], &[IDENTITY_NEW_FILE]] {
        let (_directory, path) = scratch();
        fs::create_dir(&path).unwrap();
        files.iter().for_each(|file| fs::write(path.join(file), b"theirs").unwrap());
        let before = names(&path);
        let error = DataDir::open(&path, "a").unwrap_err();
        assert!(error.to_string().contains("not a zepto data directory"), "{error}");
        assert_eq!(names(&path), before);
    }
}

#[test]
fn a_first_start_that_was_cut_off_can_be_tried_again() {
    for files in [&[][..], &[LOCK_FILE], &[LOCK_FILE, IDENTITY_NEW_FILE]] {
        let (_directory, path) = scratch();
        fs::create_dir(&path).unwrap();
        files.iter().for_each(|file| fs::write(path.join(file), b"").unwrap());
        DataDir::open(&path, "a").unwrap();
        assert_eq!(names(&path), [IDENTITY_FILE, LOCK_FILE]);
    }
}

#[test]
fn a_file_in_its_place_is_named() {
    let (_directory, path) = scratch();
    fs::write(&path, b"file").unwrap();
    assert!(matches!(DataDir::open(&path, "a"), Err(DataDirError::NotADirectory(p)) if p == path));
    let below = DataDir::open(&path.join("below"), "a").unwrap_err();
    assert!(matches!(below, DataDirError::Io { .. }), "{below}");
}

#[test]
fn another_version_is_called_that_whatever_else_it_holds() {
    let (_directory, path) = with_identity("version = 2\nshape = [1]\n");
    let error = DataDir::open(&path, "a").unwrap_err();
    assert!(matches!(error, DataDirError::Version { found: 2, .. }), "{error}");
    assert!(error.to_string().contains("version 2, this build knows version 1"), "{error}");
}

#[test]
fn a_corrupt_identity_is_named_with_its_path_and_line() {
    let good = "version = 1\nnode = \"a\"\n";
    for (text, line) in [
        (format!("{good}incarnation = \n"), 3),
        (format!("{good}incarnation = -1\n"), 3),
        (format!("{good}incarnation = 1\nextra = 2\n"), 4),
        (format!("{good}cluster = \"12\"\nincarnation = 1\n"), 3),
        (format!("{good}cluster = \"{}\"\nincarnation = 1\n", "0".repeat(32)), 3),
        (format!("{good}cluster = \"+{}\"\nincarnation = 1\n", "1".repeat(31)), 3),
        ("version = \"1\"\n".into(), 1),
        (good.into(), 1),
        (String::new(), 1),
    ] {
        let (_directory, path) = with_identity(&text);
        let error = DataDir::open(&path, "a").unwrap_err();
        assert!(matches!(error, DataDirError::Corrupt { .. }), "{text:?}: {error}");
        let place = format!("{}: line {line}: ", path.join(IDENTITY_FILE).display());
        assert!(error.to_string().starts_with(&place), "{text:?}: {error}");
        assert_eq!(names(&path), [IDENTITY_FILE], "nothing was written into it");
    }
    let (_directory, path) = with_identity("");
    for (bytes, error) in [
        (vec![0xFF, 0xFE], IdentityError::NotText),
        (vec![b'#'; CONFIG_BYTES_MAX as usize + 1], IdentityError::TooLarge),
    ] {
        fs::write(path.join(IDENTITY_FILE), bytes).unwrap();
        let found = DataDir::open(&path, "a").unwrap_err();
        assert!(matches!(found, DataDirError::Corrupt { error: e, .. } if e == error));
    }
}

#[test]
fn every_node_name_is_read_as_it_was_written() {
    for node in ["a", "node-1.example:70", r#"back\slash"quote"#, "größe", "'#=[]"] {
        let (_directory, path) = scratch();
        drop(DataDir::open(&path, node).unwrap());
        assert_eq!(DataDir::open(&path, node).unwrap().node(), node);
    }
    let (_directory, path) = scratch();
    for node in ["", "a b", "a\n", &"x".repeat(65)] {
        assert!(matches!(DataDir::open(&path, node), Err(DataDirError::Invalid(_))));
    }
    assert!(!path.exists());
}

#[test]
fn a_full_disk_is_an_error_and_the_old_identity_stands() {
    let (_directory, path) = scratch();
    let mut data = DataDir::open(&path, "a").unwrap();
    let issued = data.next_incarnation(1000).unwrap();
    // Whatever is written goes to a device that is always full.
    symlink("/dev/full", path.join(IDENTITY_NEW_FILE)).unwrap();
    let error = data.next_incarnation(2000).unwrap_err();
    assert!(error.to_string().starts_with("cannot write"), "{error}");
    assert!(error.to_string().contains("No space left on device"), "{error}");
    assert!(data.set_cluster(1).is_err());
    assert_eq!((data.incarnation(), data.cluster()), (issued, None));
    drop(data);
    fs::remove_file(path.join(IDENTITY_NEW_FILE)).unwrap();
    let data = DataDir::open(&path, "a").unwrap();
    assert_eq!((data.incarnation(), data.cluster()), (issued, None));
}

#[test]
fn a_place_where_nothing_can_be_written_is_an_error() {
    // Not writable for root either.
    let path = Path::new("/proc/zepto-data");
    let error = DataDir::open(path, "a").unwrap_err();
    assert!(error.to_string().starts_with("cannot create /proc/zepto-data: "), "{error}");
}
