//! `hydrant filter test` as people run it.

use crate::support::{Done, run};

const EVENT: &str = r#"{"Time":"2026-01-02T03:04:05Z","Type":"machines","Action":"update","Key":"k","Principal":"",
    "Object":{"Stage":"local","Params":{"n":3}},"Original":{"Stage":"discover"}}"#;

fn test(filter: &str, input: &str) -> Done {
    run(&["filter", "test", filter, "-"], input, &[])
}

#[test]
fn the_tree_is_printed_in_canonical_form() {
    let done = run(&["filter", "test", " And( /Stage=Eq( local ) ,Not(A=In(1,x)))"], "", &[]);
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""));
    assert_eq!(done.out, "And(\n  Stage=Eq(\"local\"),\n  Not(\n    A=In(1,\"x\")\n  )\n)\n");
    let again = run(&["filter", "test", &done.out], "", &[]);
    assert_eq!(again.out, done.out, "what is printed reads back");
}

#[test]
fn the_first_deciding_term_and_the_values_are_told() {
    let filter = "And(Stage=Eq(local),Params.n=Eq(4),Stage=Changed())";
    let done = test(filter, EVENT);
    assert_eq!(done.code, Some(1), "{}", done.err);
    let answer = done.out.split_once("line 1: ").unwrap().1;
    assert_eq!(
        answer,
        "false, decided by Params.n=Eq(4)\n  true Stage=Eq(\"local\"): \"local\"\n  false Params.n=Eq(4): 3\n"
    );
    let done = test("Or(No=Exists(),Stage=Changed(discover))", EVENT);
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert!(done.out.contains("  false No=Exists(): missing\n"), "{}", done.out);
    assert!(done.out.ends_with(": \"local\", before \"discover\"\n"), "{}", done.out);
}

#[test]
fn json_is_one_document_a_line() {
    let done = run(&["filter", "test", "--json", "Not(Stage=Changed())", "-"], EVENT, &[]);
    assert_eq!(done.code, Some(1), "{}", done.err);
    let lines: Vec<serde_json::Value> = done.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let term = "Stage=Changed()";
    assert_eq!(lines[0], serde_json::json!({ "filter": "Not(Stage=Changed())" }));
    assert_eq!(lines[1]["decided_by"], term);
    assert_eq!(
        lines[1]["terms"],
        serde_json::json!([{ "term": term, "matches": true, "value": "local", "before": "discover" }])
    );
    assert_eq!(lines[1]["matches"], false);
}

#[test]
fn the_exit_code_is_that_of_the_last_event() {
    for (input, code) in [
        (r#"[{"A":1},{"A":2}]"#, 1),
        (r#"[{"A":2},{"A":1}]"#, 0),
        ("{\"A\":2}\n{\"A\":1}\n", 0),
        ("{\"A\":1}\n{\"A\":2}\n", 1),
        ("{\n\"A\":1}\n", 0),
    ] {
        let done = test("A=Eq(1)", input);
        assert_eq!(done.code, Some(code), "{input}: {}", done.err);
    }
}

#[test]
fn plain_objects_and_files_do_too() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("object.json");
    std::fs::write(&file, r#"{"Type":"x","Stage":"local"}"#).unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(run(&["filter", "test", "Stage=Changed(,local)", file], "", &[]).code, Some(0));
    assert_eq!(run(&["filter", "test", "Type=Eq(y)", file], "", &[]).code, Some(1));
}

#[test]
fn a_mistake_is_shown_with_a_caret() {
    let done = test("And(Stage=Eq(é),Stage=Foo(x))", EVENT);
    assert_eq!((done.code, done.out.as_str()), (Some(64), ""));
    let lines: Vec<&str> = done.err.lines().collect();
    assert!(lines[0].contains("`Foo` is not an operator"), "{}", done.err);
    let at = lines[1].chars().position(|c| c == 'F').unwrap();
    assert_eq!(lines[2].chars().position(|c| c == '^'), Some(at), "{}", done.err);
}

#[test]
fn a_mistake_far_within_a_long_filter_is_shown_too() {
    let done = test(&format!("Or({}Stage=Foo(x))", "A=Eq(1),".repeat(200)), EVENT);
    let lines: Vec<&str> = done.err.lines().collect();
    assert!(lines[1].len() < 160, "{}", done.err);
    assert_eq!(lines[1].find('F'), lines[2].find('^'), "{}", done.err);
}

#[test]
fn what_cannot_be_answered_is_not_false() {
    for (args, input, says) in [
        (["filter", "test", "A=Eq(1)", "-"], "", "no events"),
        (["filter", "test", "A=Eq(1)", "-"], "{\"A\":1}\n{\"A\"", "standard input:2"),
        (["filter", "test", "A=Eq(1)", "/nowhere/x.json"], "", "/nowhere/x.json"),
        (["filter", "test", "A=Eq(1)", "-"], r#"{"Type":1,"Action":"x","Key":"k"}"#, "Type must be a string"),
    ] {
        let done = run(&args, input, &[]);
        assert_eq!(done.code, Some(64), "{input}");
        assert!(done.err.contains(says), "{}", done.err);
    }
}

#[test]
fn without_a_file_standard_input_is_read() {
    let asked = run(&["filter", "test", "A=Eq(1)"], "{\"A\":1}\n{\"A\":2}", &[]);
    assert_eq!(asked.code, Some(1), "{}", asked.err);
    assert!(asked.out.ends_with("line 2: false, decided by A=Eq(1)\n  false A=Eq(1): 2\n"), "{}", asked.out);
    assert_eq!((asked.err.as_str(), run(&["filter", "test", "A=Eq(1)"], "{\"A\":1}", &[]).code), ("", Some(0)));
    let empty = run(&["filter", "test", "A=Eq(1)"], "", &[]);
    assert_eq!((empty.code, empty.out.as_str()), (Some(0), "A=Eq(1)\n"), "only to see how it is understood");
}

#[test]
fn a_whole_spec_is_told_from_a_filter() {
    for (spec, says) in [
        ("machines.update.*.Stage=Changed(,local)", "`machines.update.*` is its type.action.key"),
        ("machines.update.*.Stage=Changed(,local)", "its filter is `Stage=Changed(,local)`"),
        ("*.*.*.And(A=Eq(1),B.c=Eq(2))", "its filter is `And(A=Eq(1),B.c=Eq(2))`"),
        ("a,*.create.x,y.A=Eq(1)", "its filter is `A=Eq(1)`"),
        ("machines.*.*", "it has no filter"),
    ] {
        let done = test(spec, EVENT);
        assert_eq!((done.code, done.out.as_str()), (Some(64), ""), "{spec}");
        assert!(done.err.contains(says), "{}", done.err);
    }
    let path = test("Params.update.x.y=Exists()", EVENT);
    assert_eq!(path.code, Some(1), "a field may be called so");
    assert_eq!(
        path.err,
        "hydrant: note: `Params.update.x` is read as a field path, not as type.action.key of a registration\n"
    );
    assert_eq!(test("Object.Params.n=Eq(3)", EVENT).err, "");
}
