//! Tests which filters are accepted, how they are printed, and where errors are reported.

use super::*;

fn canonical(text: &str) -> String {
    Filter::parse(text, &Limits::default()).unwrap_or_else(|e| panic!("{text}: {e}")).to_string()
}

fn refusal(text: &str) -> (usize, SyntaxError) {
    let error = Filter::parse(text, &Limits::default()).expect_err(text);
    (error.offset, error.reason)
}

#[test]
fn the_canonical_text_reads_back() {
    for (text, expected) in [
        ("Runnable=Eq(true)", "Runnable=Eq(true)"),
        (" And( Stage = Eq( local ) , Not( A=Ne(1.0) ) ) ", r#"And(Stage=Eq("local"),Not(A=Ne(1)))"#),
        ("Or ( A=Exists( ) )", "Or(A=Exists())"),
        ("A=In(a, \"b,)\" ,[1, {\"x\":\")\"}],a b)", r#"A=In("a","b,)",[1,{"x":")"}],"a b")"#),
        ("A=Changed()", "A=Changed()"),
        ("A=Changed(,)", "A=Changed()"),
        ("A=Changed(x)", "A=Changed(\"x\")"),
        ("A=Changed(,1e1)", "A=Changed(,10)"),
        ("A=Changed(null , x)", "A=Changed(null,\"x\")"),
        (r"A=Eq(a\,b\))", r#"A=Eq("a\\,b\\)")"#),
        ("A=Eq(f(x,y))", r#"A=Eq("f(x,y)")"#),
        ("A=Eq(a]b)", r#"A=Eq("a]b")"#),
        ("A=Re(^(a|b)$)", r#"A=Re("^(a|b)$")"#),
        ("A=Re( ^a )", r#"A=Re("^a")"#),
        (r"A=Re(^a\ )", r#"A=Re("^a\\ ")"#),
        (r"A=Re( \  a\   )", r#"A=Re("\\  a\\ ")"#),
        (r"A=Re(^a\\ )", r#"A=Re("^a\\\\")"#),
        ("A=Re(^a\\\t\n)", r#"A=Re("^a\\\t")"#),
        (r"A=Re(\ )", r#"A=Re("\\ ")"#),
        (r"A=Re(^a\x20 )", r#"A=Re("^a\\x20")"#),
        (r#"A=Re( " a " )"#, r#"A=Re(" a ")"#),
        (r"A=Re(\)[)(]\Q)\E)", r#"A=Re("\\)[)(]\\Q)\\E")"#),
        (r#"A=Re( "a[)]\u0062\\." )"#, r#"A=Re("a[)]b\\.")"#),
        (r#"A=Re("a"|"b")"#, r#"A=Re("\"a\"|\"b\"")"#),
        ("A=Re()", "A=Re(\"\")"),
        ("And=Eq(And)", r#"And=Eq("And")"#),
        ("/a~1b/c.d=Nin(\"\")", "/a~1b/c.d=Nin(\"\")"),
        ("My Field.x=Exists()", "My Field.x=Exists()"),
        ("Not(Not(Not(A=Exists())))", "Not(Not(Not(A=Exists())))"),
        ("Or(And(A=Exists(),B=Exists()),C=Exists())", "Or(And(A=Exists(),B=Exists()),C=Exists())"),
    ] {
        assert_eq!(canonical(text), expected);
        assert_eq!(canonical(expected), expected, "stable");
    }
}

#[test]
fn equal_filters_are_equal() {
    let filter = |text: &str| Filter::parse(text, &Limits::default()).unwrap();
    assert_eq!(filter("A.b=Eq(1)"), filter(" /A/b = Eq( 1.0 ) "));
    assert_eq!(filter("A=Re(^a)"), filter("A=Re(\"^a\")"));
    assert_ne!(filter("A=Eq(1)"), filter("A=Eq(\"1\")"));
    assert_ne!(filter("And(A=Exists())"), filter("Or(A=Exists())"));
}

#[test]
fn refusals_name_the_place_and_what_was_expected() {
    let arguments = |operator, takes| SyntaxError::Arguments { operator, takes };
    for (text, offset, reason) in [
        ("", 0, SyntaxError::Term),
        ("  ", 2, SyntaxError::Term),
        ("Stage", 5, SyntaxError::Equals),
        ("Stage=", 6, SyntaxError::Operator(String::new())),
        ("Stage=Eq", 8, SyntaxError::Open),
        ("Stage=Eq(local", 9, SyntaxError::Unclosed),
        ("Stage=Eq(\"a)", 9, SyntaxError::Unclosed),
        ("Stage=Eq({\"a\":)", 9, SyntaxError::Unclosed),
        ("Stage=Eq()", 9, SyntaxError::Value(ValueError::Empty)),
        ("Stage=In(a, )", 12, SyntaxError::Value(ValueError::Empty)),
        ("Stage=Eq(a,b)", 9, arguments("Eq", "one value")),
        ("Stage=Exists(1)", 13, arguments("Exists", "no value: Exists()")),
        ("A=Changed(a,b,c)", 10, arguments("Changed", "at most two values: Changed(from,to)")),
        ("Stage=Foo(a)", 6, SyntaxError::Operator("Foo".to_owned())),
        ("Stage=eq(a)", 6, SyntaxError::Operator("eq".to_owned())),
        ("And()", 4, SyntaxError::NoTerms("And")),
        ("Or( )", 4, SyntaxError::NoTerms("Or")),
        ("Not(", 4, SyntaxError::NoTerms("Not")),
        ("And(A=Exists(),)", 15, SyntaxError::Term),
        ("And(A=Exists()", 14, SyntaxError::Separator),
        ("Not(A=Exists(),B=Exists())", 14, SyntaxError::NotTakesOne),
        ("and(A=Exists())", 0, SyntaxError::Combinator("and".to_owned())),
        ("(A=Exists())", 0, SyntaxError::Term),
        ("A=Eq(1),B=Eq(2)", 7, SyntaxError::Trailing),
        ("A=Eq(1))", 7, SyntaxError::Trailing),
        ("=Eq(1)", 0, SyntaxError::Path(PathError::Empty)),
        ("a..b=Eq(1)", 2, SyntaxError::Path(PathError::EmptyName)),
        ("a,b=Eq(1)", 1, SyntaxError::Equals),
        ("Stage=Re([)", 9, SyntaxError::Pattern(PatternError::MissingBracket)),
        ("Stage=Re((?=x)y)", 9, SyntaxError::Pattern(PatternError::Group)),
        ("Stage=Re(  ab**)", 14, SyntaxError::Pattern(PatternError::DoubleRepeat)),
    ] {
        assert_eq!(refusal(text), (offset, reason), "{text}");
    }
    let (offset, reason) = refusal("Stage=Eq({\"a\":})");
    assert!(offset == 14 && matches!(reason, SyntaxError::Value(ValueError::Json(_))), "{offset} {reason}");
    let error = Filter::parse("A=Foo()", &Limits::default()).unwrap_err().to_string();
    assert!(error.contains("byte 2") && error.contains("expected Exists"), "{error}");
}

#[test]
fn every_limit_is_kept() {
    let limits = Limits { text: 200, nesting: 3, terms: 5, list: 3, patterns: 1, pattern: 8, compiled: 1 << 16 };
    let parse = |text: &str| Filter::parse(text, &limits).map_err(|error| error.reason);
    let over = |what, most| Err(SyntaxError::Limit { what, most });
    assert!(parse("Not(Not(Not(A=Exists())))").is_ok());
    assert_eq!(parse("Not(Not(Not(Not(A=Exists()))))"), over("nested terms", 3));
    assert!(parse("And(A=Exists(),A=Exists(),A=Exists(),A=Exists())").is_ok());
    assert_eq!(parse("And(A=Exists(),A=Exists(),A=Exists(),A=Exists(),A=Exists())"), over("terms", 5));
    assert!(parse("A=In(1,2,3)").is_ok());
    assert_eq!(parse("A=In(1,2,3,4)"), over("values in a list", 3));
    assert!(parse("A=Re(12345678)").is_ok());
    assert_eq!(parse("A=Re(123456789)"), Err(SyntaxError::Pattern(PatternError::Long(8))));
    assert_eq!(parse("Or(A=Re(1),A=Re(2))"), over("regular expressions", 1));
    assert_eq!(parse("A=Eq([[[[1]]]])"), Err(SyntaxError::Value(ValueError::Nested(3))));
    assert_eq!(parse(&format!("A=Eq({})", "x".repeat(200))), over("bytes of text", 200));
}

#[test]
fn patterns_share_what_they_may_compile_to() {
    let limits = Limits::default();
    let or = |pattern: &str, count: usize| format!("Or({})", vec![format!("A=Re({pattern})"); count].join(","));
    Filter::parse(&or("^[a-z0-9.-]{1,63}$", limits.patterns), &limits).unwrap();
    let large = r"\pL";
    Filter::parse(&or(large, 1), &limits).unwrap();
    let error = Filter::parse(&or(large, limits.patterns), &limits).unwrap_err();
    assert!(error.to_string().contains("could take too long"), "{error}");
}
