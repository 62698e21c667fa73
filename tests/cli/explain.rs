//! `hydrant explain` as people run it.

use crate::support::{Broker, run};

const EVENT: &str = r#"{"Type":"machines","Action":"update","Key":"k",
    "Object":{"Stage":"local","Params":{"n":12345678901234567890}},"Original":{"Stage":"none"}}"#;

#[test]
fn the_reason_comes_first_and_the_tree_below_it() {
    let done = run(&["explain", "machines.create.*.Stage=Eq(none)", "-"], EVENT, &[]);
    assert_eq!((done.code, done.err.as_str()), (Some(1), ""));
    let expected =
        "not delivered: the action is `update`, not `create`; Stage=Eq(\"none\") is false: the value is \"local\"
machines.create.*.Stage=Eq(none)
  yes the type is `machines`: `machines`
  no  the action is `create`: `update`
  yes the key is anything: `k`
  no  the filter is true
    no  Stage=Eq(\"none\"): \"local\"
";
    assert_eq!(done.out, expected);
}

#[test]
fn the_exit_code_says_whether_it_matches() {
    let spec = "machines.*.*.And(Stage=Changed(none,local),Params.n=Eq(12345678901234567890))";
    let done = run(&["explain", spec, "-"], EVENT, &[]);
    assert_eq!(done.code, Some(0), "{}", done.out);
    assert!(done.out.starts_with("delivered: "), "{}", done.out);
    assert!(done.out.contains("Stage=Changed(\"none\",\"local\"): \"local\", previously \"none\"\n"), "{}", done.out);
    let done = run(&["explain", "--json", "jobs.*.*", "-"], EVENT, &[]);
    let answer: serde_json::Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(
        (done.code, &answer["Delivered"], &answer["Causes"][0]["Kind"]),
        (Some(1), &false.into(), &"Type".into())
    );
}

#[test]
fn what_cannot_be_answered_is_64_with_the_place() {
    let done = run(&["explain", "machines.update.*.Stage=Eq(", "-"], EVENT, &[]);
    assert_eq!(done.code, Some(64));
    assert!(done.err.contains("bad filter at byte "), "{}", done.err);
    let lines: Vec<&str> = done.err.lines().collect();
    assert!(lines[1].ends_with("machines.update.*.Stage=Eq(") && lines[2].ends_with('^'), "{}", done.err);
    for (input, said) in
        [("", "no events in it"), ("{}", "Type is missing"), (r#"{"Type":""}"#, "Action is missing"), ("[1]", "")]
    {
        let done = run(&["explain", "a.b.c", "-"], input, &[]);
        assert!(done.code == Some(64) && done.err.contains(said), "{input}: {}", done.err);
    }
    let done = run(&["explain", "..c", "-"], r#"{"Type":"","Action":"","Key":"c"}"#, &[]);
    assert_eq!(done.code, Some(0), "an endpoint may send it: {}", done.err);
}

#[test]
fn whom_the_server_does_not_know_is_named_with_what_to_check() {
    let broker = Broker::start();
    let event = r#"{"Type":"machines","Action":"update","Key":"k","Object":null}"#;
    for (args, said) in [
        (
            ["--user", "nobody"],
            "there is no user `nobody` at this server, or your own lacks the claim users/get/nobody",
        ),
        (["--connection", "127.0.0.1:1"], "there is no connection from 127.0.0.1:1 at this server"),
    ] {
        let done = broker.run(&[&["explain", "*.*.*", "-"], &args[..]].concat(), event);
        assert!(done.code == Some(64) && done.err.contains(said), "{}", done.err);
    }
}
