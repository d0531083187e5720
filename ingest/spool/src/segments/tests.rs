use millrace_events::{Topic, TopicPartition};
use millrace_log::Append;
use tempfile::TempDir;

use super::*;

/// Two frames fill a segment.
const SEGMENT_BYTES: u64 = 150;

fn batch(n: u64) -> Vec<Append> {
    let to = TopicPartition::new(Topic::Actions, 0);
    let record = |key: &'static str| Append {
        to,
        time: LogTime(i64::try_from(n).unwrap()),
        key: Bytes::from_static(key.as_bytes()),
        value: Bytes::from(n.to_be_bytes().to_vec()),
    };
    vec![record("a"), record("b")]
}

fn write(segments: &mut Segments, batches: std::ops::Range<u64>) {
    for n in batches {
        try_write(segments, n).unwrap();
    }
}

fn try_write(segments: &mut Segments, n: u64) -> io::Result<u64> {
    let mut frame = Vec::new();
    frame::write(&mut frame, segments.next(), [&batch(n)[..]].into_iter()).unwrap();
    segments.write(&frame, 1)
}

fn open(dir: &TempDir) -> Result<(Segments, Leftovers)> {
    Segments::open(dir.path(), SEGMENT_BYTES, 0)
}

/// A spool of six batches in three files, closed.
fn six() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(&mut open(&dir).unwrap().0, 0..6);
    assert_eq!(names(dir.path()).unwrap(), [0, 2, 4]);
    dir
}

/// Everything from `place` on, by number.
fn read_all(segments: &Segments, mut place: Place) -> Vec<u64> {
    let mut found = Vec::new();
    while let Some((at, end, path)) = segments.from(place) {
        let (batches, next) = read(at, end, &path).unwrap();
        assert!(batches.iter().all(|b| format!("{:?}", b.batch) == format!("{:?}", batch(b.number))));
        found.extend(batches.into_iter().map(|b| b.number));
        place = next;
    }
    found
}

#[test]
fn what_was_written_is_found_and_drained_file_by_file() {
    let dir = six();
    let (mut segments, left) = open(&dir).unwrap();
    assert_eq!((left.batches, left.events, left.cut_bytes), (6, 12, 0));
    assert_eq!((left.oldest, left.newest), (Some(LogTime(0)), Some(LogTime(5))));
    assert_eq!(left.bytes, segments.bytes());
    let start = segments.start();
    assert_eq!(read_all(&segments, start), [0, 1, 2, 3, 4, 5]);

    assert_eq!(segments.drained(1), 0, "a file is deleted when the log has all of it");
    let before = segments.bytes();
    let freed = segments.drained(5);
    assert_eq!((names(dir.path()).unwrap(), segments.bytes()), (vec![4], before - freed));
    assert_eq!(read_all(&segments, start), [4, 5]);
    write(&mut segments, 6..8);
    assert_eq!(read_all(&segments, segments.start()), [4, 5, 6, 7]);
    segments.drained(8);
    assert_eq!((names(dir.path()).unwrap(), segments.bytes()), (vec![], 0));
    let growth = try_write(&mut segments, 8).unwrap();
    assert_eq!((read_all(&segments, start), segments.bytes()), (vec![8], growth));
}

#[test]
fn a_reader_goes_on_where_the_writer_is() {
    let dir = tempfile::tempdir().unwrap();
    let (mut segments, _) = open(&dir).unwrap();
    let mut place = segments.start();
    assert_eq!(segments.from(place), None);
    for n in 0..5 {
        write(&mut segments, n..n + 1);
        let (at, end, path) = segments.from(place).unwrap();
        let (batches, next) = read(at, end, &path).unwrap();
        assert_eq!(batches.iter().map(|b| b.number).collect::<Vec<_>>(), [n]);
        place = next;
        assert_eq!(segments.from(place), None);
    }
}

/// Damages one of the three files of six batches and opens them.
fn damaged(file: u64, damage: impl Fn(&mut Vec<u8>)) -> (TempDir, Result<(Segments, Leftovers)>) {
    let dir = six();
    let path = dir.path().join(format!("{file:020}.spool"));
    let mut bytes = fs::read(&path).unwrap();
    damage(&mut bytes);
    fs::write(&path, bytes).unwrap();
    let opened = open(&dir);
    (dir, opened)
}

#[test]
fn a_last_write_that_nobody_was_told_of_is_cut_off() {
    let torn = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() - 3);
    let (_dir, opened) = damaged(4, torn);
    let (mut segments, left) = opened.unwrap();
    assert_eq!(left.batches, 5);
    assert!(left.cut_bytes > 0);
    write(&mut segments, 5..7);
    assert_eq!(read_all(&segments, segments.start()), [0, 1, 2, 3, 4, 5, 6]);

    let (_, left) = damaged(4, |bytes| bytes.extend([0; 100])).1.unwrap();
    assert_eq!((left.batches, left.cut_bytes), (6, 100));
    // The first frame of a file, and not even that.
    for bytes_left in [40, 8, 5, 0] {
        let (_dir, opened) = damaged(4, |bytes| bytes.truncate(bytes_left));
        let (mut segments, left) = opened.unwrap();
        assert_eq!(left.batches, 4, "{bytes_left} bytes left");
        write(&mut segments, 4..5);
        assert_eq!(read_all(&segments, segments.start()), [0, 1, 2, 3, 4]);
    }
}

#[test]
fn damage_to_what_was_acknowledged_is_refused_with_the_cure() {
    let refused = |file, damage: fn(&mut Vec<u8>)| damaged(file, damage).1.unwrap_err();
    for error in [
        refused(4, |bytes| bytes[20] ^= 1),
        refused(4, |bytes| bytes[0] ^= 1),
        refused(2, |bytes| bytes.truncate(90)),
        refused(0, |bytes| bytes.clear()),
        refused(0, |bytes| *bytes.last_mut().unwrap() ^= 1),
    ] {
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("put back what is whole of them"), "{error}");
    }

    let dir = six();
    fs::remove_file(dir.path().join(format!("{:020}.spool", 2))).unwrap();
    assert!(open(&dir).unwrap_err().to_string().contains("batches 2 to 4 are missing"));
    fs::rename(dir.path().join(format!("{:020}.spool", 0)), dir.path().join("first.spool")).unwrap();
    assert!(open(&dir).unwrap_err().to_string().contains("first.spool is not named"));
}

#[test]
fn a_failed_write_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let (mut segments, _) = open(&dir).unwrap();
    write(&mut segments, 0..1);
    // A handle that cannot write fails as a disk does.
    segments.active = Some(File::open(segments.path(0)).unwrap());
    try_write(&mut segments, 1).unwrap_err();
    assert!(!segments.torn, "what it may have left is cut off at once");
    write(&mut segments, 1..4);
    assert_eq!(read_all(&segments, segments.start()), [0, 1, 2, 3]);
    assert_eq!(open(&dir).unwrap().1.batches, 4);
}

#[test]
fn nothing_is_written_behind_what_could_not_be_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let (mut segments, _) = open(&dir).unwrap();
    write(&mut segments, 0..1);
    let (path, aside) = (segments.path(0), dir.path().join("aside"));
    segments.active = Some(File::open(&path).unwrap());
    // The disk does not even take the cut.
    fs::rename(&path, &aside).unwrap();
    try_write(&mut segments, 1).unwrap_err();
    segments.allows(1).unwrap_err();
    try_write(&mut segments, 1).unwrap_err();
    fs::rename(&aside, &path).unwrap();
    segments.allows(1).unwrap();
    write(&mut segments, 1..2);
    assert_eq!(read_all(&segments, segments.start()), [0, 1]);
}

#[test]
fn a_disk_keeps_what_is_reserved() {
    let dir = tempfile::tempdir().unwrap();
    let (mut segments, _) = Segments::open(dir.path(), SEGMENT_BYTES, u64::MAX / 2).unwrap();
    let error = try_write(&mut segments, 0).unwrap_err();
    assert_eq!(error.kind(), IoErrorKind::StorageFull);
    assert_eq!(names(dir.path()).unwrap(), []);
}
