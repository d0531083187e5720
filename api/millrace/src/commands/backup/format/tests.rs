use super::*;

fn backup(dir: &Path) -> Manifest {
    std::fs::create_dir(dir.join(CHUNKS)).unwrap();
    let mut chunk = ChunkWriter::create(dir, 0, "log/actions/0").unwrap();
    for number in 0..1_000_u32 {
        chunk.push(&number.to_be_bytes(), format!("value {number}").as_bytes()).unwrap();
    }
    chunk.push(b"zzzz", b"").unwrap();
    let chunks = vec![chunk.finish().unwrap()];
    let manifest = Manifest { format: FORMAT, generation: 2, chunks, ..Manifest::default() };
    manifest.write(dir).unwrap()
}

#[test]
fn a_chunk_gives_back_what_it_was_given() {
    let dir = tempfile::tempdir().unwrap();
    let written = backup(dir.path());
    let manifest = Manifest::read(dir.path(), 2).unwrap();
    assert_eq!((&manifest.chunks, manifest.records()), (&written.chunks, 1_001));
    manifest.chunks[0].file.check(dir.path()).unwrap();
    let mut reader = ChunkReader::open(dir.path(), &manifest.chunks[0]).unwrap();
    for number in 0..1_000_u32 {
        let pair = (number.to_be_bytes().to_vec(), format!("value {number}").into_bytes());
        assert_eq!(reader.next().unwrap(), Some(pair));
    }
    assert_eq!(reader.next().unwrap(), Some((b"zzzz".to_vec(), Vec::new())));
    assert_eq!(reader.next().unwrap(), None);
}

#[test]
fn every_changed_byte_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = backup(dir.path());
    let path = dir.path().join(&manifest.chunks[0].file.path);
    let good = std::fs::read(&path).unwrap();
    for at in (0..good.len()).step_by(7) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&path, &bad).unwrap();
        let error = manifest.chunks[0].file.check(dir.path()).err().unwrap().to_string();
        assert!(error.contains("damaged"), "{error}");
    }
    std::fs::write(&path, &good[..good.len() - 1]).unwrap();
    assert!(manifest.chunks[0].file.check(dir.path()).is_err());
}

#[test]
fn a_chunk_with_another_number_of_records_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = backup(dir.path());
    for records in [1_000, 1_002] {
        let chunk = Chunk { records, ..manifest.chunks[0].clone() };
        let mut reader = ChunkReader::open(dir.path(), &chunk).unwrap();
        let ended = loop {
            match reader.next() {
                Ok(Some(_)) => {}
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        assert!(ended, "{records} records were believed");
    }
}

#[test]
fn what_is_no_complete_backup_of_ours_is_refused_with_the_reason() {
    let refused = |change: &dyn Fn(&mut serde_json::Value)| {
        let dir = tempfile::tempdir().unwrap();
        backup(dir.path());
        let path = dir.path().join(MANIFEST);
        let mut json = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        change(&mut json);
        std::fs::write(&path, json.to_string()).unwrap();
        Manifest::read(dir.path(), 2).err().unwrap().to_string()
    };
    assert!(refused(&|json| json["complete"] = false.into()).contains("not a complete backup"));
    assert!(refused(&|json| json["format"] = 9.into()).contains("format 9"));
    assert!(refused(&|json| json["generation"] = 1.into()).contains("generation 1"));
    assert!(refused(&|json| json["chunks"] = 1.into()).contains("damaged"));
    let empty = tempfile::tempdir().unwrap();
    let error = Manifest::read(empty.path(), 2).err().unwrap().to_string();
    assert!(error.contains("not a complete backup") && error.contains(MANIFEST), "{error}");
}

#[test]
fn a_manifest_cannot_name_files_outside() {
    for path in ["../x", "/etc/passwd", "db/../../x", "", "./x"] {
        let entry = Entry { path: path.to_owned(), bytes: 0, xxh3: String::new() };
        assert!(entry.within(Path::new("/backup")).is_err(), "{path:?} was allowed");
    }
}
