//! Labels: forty tricks, what they are told, and what a terminal may see.

use pangea_wire::{Label, LabelRefused, escaped};
use proptest::prelude::*;

#[test]
fn every_trick_with_a_name_is_refused_for_what_it_is() {
    use LabelRefused::*;
    let long = "a".repeat(256);
    let long_wide = "ß".repeat(128);
    let tricks = [
        ("", Empty),
        (".", Dots),
        ("..", Dots),
        ("...", Edge),
        ("/etc/passwd", Separator('/')),
        ("../up", Separator('/')),
        ("a/../b", Separator('/')),
        ("a/", Separator('/')),
        ("..\\up", Separator('\\')),
        ("C:\\x", Separator(':')),
        ("c:", Separator(':')),
        ("file.txt:stream", Separator(':')),
        ("a\0b", Control('\0')),
        ("a\nb", Control('\n')),
        ("a\rb", Control('\r')),
        ("a\tb", Control('\t')),
        ("\u{1b}[2J", Control('\u{1b}')),
        ("a\u{7f}", Control('\u{7f}')),
        ("a\u{85}b", Control('\u{85}')),
        ("a\u{9b}31m", Control('\u{9b}')),
        ("photo\u{202e}gpj.exe", Invisible('\u{202e}')),
        ("a\u{202d}b", Invisible('\u{202d}')),
        ("a\u{2066}b", Invisible('\u{2066}')),
        ("a\u{2069}b", Invisible('\u{2069}')),
        ("a\u{200f}b", Invisible('\u{200f}')),
        ("a\u{61c}b", Invisible('\u{61c}')),
        ("a\u{200b}b", Invisible('\u{200b}')),
        ("\u{feff}a", Invisible('\u{feff}')),
        ("a\u{2028}b", Invisible('\u{2028}')),
        ("a\u{e0041}b", Invisible('\u{e0041}')),
        (" a", Edge),
        ("a ", Edge),
        ("a.", Edge),
        (".hidden", Edge),
        ("\u{a0}a", Edge),
        ("a\u{3000}", Edge),
        ("NUL", Device),
        ("con.txt", Device),
        ("nul .tar.gz", Device),
        ("Com7", Device),
        ("lpt¹.doc", Device),
        ("CONOUT$", Device),
        ("e\u{301}", NotNormal),
        ("\u{212b}", NotNormal),
        ("\u{1100}\u{1161}", NotNormal),
        (long.as_str(), TooLong(256)),
        (long_wide.as_str(), TooLong(256)),
    ];
    assert!(tricks.len() >= 40);
    for (trick, expected) in tricks {
        assert_eq!(Label::new(trick), Err(expected), "{trick:?}");
        assert!(Label::new(Label::cleaned(trick).as_str()).is_ok(), "{trick:?} can be cleaned");
    }
    assert_eq!(Label::from_bytes(&[0xc3, 0x28]), Err(NotUtf8));
    assert_eq!(Label::from_bytes(&[b'a'; 256]), Err(TooLong(256)));
}

#[test]
fn ordinary_names_are_labels_as_they_are() {
    let long = "a".repeat(255);
    let names = [
        "report.pdf",
        "Ünïcödé.txt",
        "写真.jpg",
        "नमस्ते",
        "👩\u{200d}🔬.png",
        "a b",
        "com10",
        "nullable.c",
        "COM",
        "console",
        "a..b",
        "x'y\"z",
        long.as_str(),
    ];
    for name in names {
        assert_eq!(Label::new(name).unwrap().as_str(), name);
        assert_eq!(Label::cleaned(name).as_str(), name);
    }
}

#[test]
fn a_file_of_the_users_own_keeps_as_much_of_its_name_as_it_can() {
    for (name, cleaned) in [
        (".bashrc", "_bashrc"),
        ("a:b", "a_b"),
        ("dir/file", "dir_file"),
        ("con.txt", "_con.txt"),
        ("e\u{301}.txt", "é.txt"),
        ("ends.", "ends"),
        ("..", "_"),
        ("", "_"),
        ("line\nbreak", "line_break"),
    ] {
        assert_eq!(Label::cleaned(name).as_str(), cleaned, "{name:?}");
    }
    assert!(Label::cleaned(&"ß".repeat(300)).as_str().len() <= 255);
}

#[test]
fn a_terminal_sees_no_control_of_a_peer() {
    let shown = escaped("a\u{1b}[31m\u{202e}b\n").to_string();
    assert_eq!(shown, r"a\u{1b}[31m\u{202e}b\u{a}");
    let cut = escaped(&"x".repeat(1000)).to_string();
    assert_eq!(cut.chars().count(), 256);
    let label = Label::new("zwj\u{200d}").unwrap();
    assert_eq!(format!("{label} {label:?}"), "zwj\u{200d} Label(zwj\u{200d})");
}

proptest! {
    #[test]
    fn what_was_cleaned_is_a_label(text in any::<String>()) {
        let label = Label::cleaned(&text);
        prop_assert_eq!(Label::new(label.as_str()), Ok(label.clone()));
    }

    #[test]
    fn a_label_is_never_more_than_one_part_of_a_path(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        if let Ok(label) = Label::from_bytes(&bytes) {
            let path = std::path::Path::new(label.as_str());
            let parts: Vec<_> = path.components().collect();
            prop_assert_eq!(parts, vec![std::path::Component::Normal(label.as_str().as_ref())]);
        }
    }
}
