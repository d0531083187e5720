use super::*;

#[test]
fn a_backup_goes_only_where_it_may() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for name in ["data", "root", "root/empty", "root/full", "else", "data/inside"] {
        fs::create_dir(path(name)).unwrap();
    }
    fs::write(path("root/full/x"), "").unwrap();
    fs::write(path("root/file"), "").unwrap();
    std::os::unix::fs::symlink(path("data"), path("root/link")).unwrap();
    std::os::unix::fs::symlink(path("else"), path("root/away")).unwrap();
    let make = |name: &str, root: Option<&str>| {
        let root = root.map(&path);
        Destination::make(&path(name), &path("data"), root.as_deref()).map_err(|e| format!("{e:#}"))
    };
    let mode = |of: &Destination| fs::metadata(of.path()).unwrap().permissions().mode() & 0o777;
    for name in ["root/new", "root/empty"] {
        assert_eq!(mode(&make(name, Some("root")).unwrap()), 0o700);
    }
    let refused = |name: &str, root: Option<&str>| make(name, root).err().unwrap();
    assert!(refused("root/full", None).contains("not an empty directory"));
    assert!(refused("root/file", None).contains("not an empty directory"));
    assert!(refused("root/link", None).contains("not an empty directory"));
    assert!(refused("data/x", None).contains("inside of the data directory"));
    assert!(refused("root/link/x", None).contains("inside of the data directory"));
    assert!(refused("else/x", Some("root")).contains("go below"));
    assert!(refused("root/away/x", Some("root")).contains("go below"));
    assert!(refused("root/../else/x", Some("root")).contains("go below"));
    assert!(refused("root/..", None).contains("not there yet"));
    assert!(refused("nowhere/x", None).contains("make it first"));
    assert!(make("else/x", None).is_ok());
}
