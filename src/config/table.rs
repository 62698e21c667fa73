//! Declares a table of settings: the struct, its rows and its parser are generated from one list.

/// Declares a table: `name: type as kind = default;` with its documentation, then its nested tables.
macro_rules! table {
    (
        $(#[doc = $about:literal])+
        $name:ident in $prefix:literal {
            $($(#[doc = $doc:literal])+ $field:ident: $type:ty as $kind:ident = $default:literal;)+
        }
        $(with { $($(#[doc = $sub_doc:literal])+ $sub:ident: $sub_type:ident,)+ })?
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $($(#[doc = $doc])+ pub $field: $type,)+
            $($($(#[doc = $sub_doc])+ pub $sub: $sub_type,)+)?
        }

        impl Table for $name {
            fn declare(rows: &mut Vec<Row>) {
                $(rows.push(Row {
                    key: concat!($prefix, stringify!($field)),
                    default: $default,
                    what: kind::$kind::WHAT,
                    doc: concat!($($doc),+).trim_ascii(),
                    toml: kind::$kind::TOML,
                    shown: kind::$kind::SHOWN,
                    separator: kind::$kind::SEPARATOR,
                    fits: |text| kind::$kind::parse(text).is_some(),
                });)+
                $($($sub_type::declare(rows);)+)?
            }

            fn take(raw: &RawSettings) -> Self {
                Self {
                    $($field: raw.take::<kind::$kind>(concat!($prefix, stringify!($field)), $default),)+
                    $($($sub: $sub_type::take(raw),)+)?
                }
            }
        }
    };
}
