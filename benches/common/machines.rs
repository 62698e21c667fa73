//! Events for the benchmarks of filters.

use std::fmt::Write;

use hydrant::event::{Draft, Event};

/// Objects of 12 KB as DRP sends machines: some sixty fields, parameters, and the state before.
fn machine(number: usize) -> Event {
    let object = |stage: &str| {
        let mut text = format!(
            "{{\"Validated\":true,\"Available\":true,\"Errors\":[],\"ReadOnly\":false,\
             \"Meta\":{{\"color\":\"black\",\"icon\":\"server\",\"feature-flags\":\"change-stage-v2\",\
             \"title\":\"machine {number}\"}},\"Name\":\"m{number}.example.com\",\
             \"Description\":\"Machine in rack {}, unit {}\",\"Uuid\":\"00e03d2c-0000-4000-8000-{number:012}\",",
            number % 40,
            number % 42,
        );
        write!(
            text,
            "\"Stage\":\"{stage}\",\"Workflow\":\"universal-runbook\",\"BootEnv\":\"local\",\"Runnable\":true,\
             \"Address\":\"10.0.{}.{}\",",
            number / 250 % 250,
            number % 250
        )
        .unwrap();
        for field in 0..40 {
            write!(text, r#""Field{field}":"some text of the usual length {}","#, field * number).unwrap();
        }
        write!(
            text,
            "\"Tasks\":[\"stage:discover\",\"bootenv:sledgehammer\",\"gohai\",\"network-discovery\",\
             \"stage:{stage}\"],\"Params\":{{\"x\":{number},"
        )
        .unwrap();
        for param in 0..57 {
            write!(
                text,
                r#""group-{}/param-{param}":{{"value":"v{}","ports":[{param},22,443],"on":true}},"#,
                param % 7,
                param * number
            )
            .unwrap();
        }
        text + r#""last-param":null},"Arch":"amd64","OS":"ubuntu-22.04"}"#
    };
    let (object, original) = (object("local"), object("discover"));
    let mut draft = Draft::new("machines", "update", "00e03d2c");
    (draft.object, draft.original) = (&object, &original);
    draft.seal("2026-01-02T03:04:05Z".parse().unwrap())
}

/// Sixty-four of them: they take turns, so that nothing is remembered from one to the next.
pub(super) fn events() -> Vec<Event> {
    let events: Vec<Event> = (0..64).map(machine).collect();
    let size = events[0].json().len();
    assert!((11_500..13_000).contains(&size), "{size} bytes");
    events
}
