//! Variables in texts: `${NAME}` and `${NAME:-default}`.
//!
//! They are filled in after the file was parsed, in string values only: a value from outside can
//! never become a key, a number, another line or a comment, whatever is in it. The rules are the
//! shell's, where it has the form:
//!
//! - `${NAME}` must be set; it may be set to nothing.
//! - `${NAME:-default}` is the default when the variable is not set or set to nothing. The default
//!   is plain text up to the first `}`; it holds no variable.
//! - `$$` is one dollar. Any other dollar is refused: `$NAME` would be taken for a variable by one
//!   reader and for a text by the next.
//! - What was filled in is not looked at again.

use super::complaint::quoted;

/// One variable, as a regular expression.
pub const VARIABLE: &str = r"\$\{[A-Za-z_][A-Za-z0-9_]*(?::-(?:[^$}]|\$\$)*)?\}";

/// Fills in the variables of one text.
///
/// # Errors
/// Everything that is wrong with it.
pub fn fill(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, Vec<String>> {
    let mut filled = String::with_capacity(text.len());
    let mut wrong = Vec::new();
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        filled.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            filled.push('$');
            rest = after;
        } else if let Some(inner) = rest.strip_prefix('{') {
            let Some((body, after)) = inner.split_once('}') else {
                wrong.push(format!("{} has no closing brace", quoted(&format!("${rest}"))));
                return Err(wrong);
            };
            match value(body, env) {
                Ok(value) => filled.push_str(&value),
                Err(message) => wrong.push(message),
            }
            rest = after;
        } else {
            wrong.push(LONE.to_owned());
        }
    }
    filled.push_str(rest);
    if wrong.is_empty() { Ok(filled) } else { Err(wrong) }
}

const LONE: &str =
    "a \"$\" stands alone: write \"${NAME}\" or \"${NAME:-default}\" for a variable, and \"$$\" for a dollar";

/// What `${body}` stands for.
fn value(body: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let whole = quoted(&format!("${{{body}}}"));
    let (name, default) = match body.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (body, None),
    };
    let nested = || format!("{whole}: a variable may not stand within another; a default is plain text");
    if name.contains("${") {
        return Err(nested());
    }
    let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.bytes().next().is_some_and(|b| !b.is_ascii_digit());
    if !is_name {
        return Err(format!(
            "{whole} is no variable: write \"${{NAME}}\" or \"${{NAME:-default}}\"; \
             a name is made of letters, digits and \"_\" and begins with no digit"
        ));
    }
    let set = env(name);
    if set.as_ref().is_some_and(|value| value.contains(char::REPLACEMENT_CHARACTER)) {
        return Err(format!("the variable {name} holds bytes that are no UTF-8"));
    }
    match (set, default) {
        (Some(value), _) if !value.is_empty() => Ok(value),
        (_, Some(default)) => {
            let pieces: Vec<_> = default.split("$$").collect();
            if pieces.iter().any(|piece| piece.contains("${")) {
                return Err(nested());
            }
            if pieces.iter().any(|piece| piece.contains('$')) {
                return Err(LONE.to_owned());
            }
            Ok(pieces.join("$"))
        }
        (Some(empty), None) => Ok(empty),
        (None, None) => {
            Err(format!("the variable {name} is not set: set it, or give a default: \"${{{name}:-default}}\""))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "HOME" => Some("/home/mahout".to_owned()),
            "EMPTY" => Some(String::new()),
            "TRICK" => Some("${HOME} $$ \"\n[bus]".to_owned()),
            "BYTES" => Some("a\u{fffd}".to_owned()),
            _ => None,
        }
    }

    fn check(text: &str, expected: Result<&str, &str>) {
        let filled = fill(text, &env).map_err(|wrong| wrong.join(" | "));
        assert_eq!(filled.as_deref(), expected.map_err(str::to_owned).as_ref().copied(), "{text}");
    }

    #[test]
    fn variables_are_filled_in_as_the_shell_does_it() {
        check("no variable {at} all: -", Ok("no variable {at} all: -"));
        check("${HOME}/data", Ok("/home/mahout/data"));
        check("${HOME}${HOME}", Ok("/home/mahout/home/mahout"));
        check("${EMPTY}", Ok(""));
        check("${HOME:-x}", Ok("/home/mahout"));
        check("${EMPTY:-x}", Ok("x"));
        check("${NONE:-x}/y", Ok("x/y"));
        check("${NONE:-}", Ok(""));
        check("${NONE:-https://a:80/b:-c}", Ok("https://a:80/b:-c"));
        check("$$", Ok("$"));
        check("/$$schema", Ok("/$schema"));
        check("$${HOME}", Ok("${HOME}"));
        check("$$${HOME}", Ok("$/home/mahout"));
        check("${NONE:-a$$b}", Ok("a$b"));
        check("${NONE:-a$${b}", Ok("a${b"));
    }

    #[test]
    fn what_was_filled_in_is_not_looked_at_again() {
        check("${TRICK}", Ok("${HOME} $$ \"\n[bus]"));
    }

    #[test]
    fn everything_wrong_with_a_text_is_said() {
        check("${NONE}", Err("the variable NONE is not set: set it, or give a default: \"${NONE:-default}\""));
        let nested = "\"${NONE:-${HOME}\": a variable may not stand within another; a default is plain text";
        check("${NONE:-${HOME}}", Err(nested));
        check("${HOME", Err("\"${HOME\" has no closing brace"));
        check("$HOME", Err(LONE));
        check("100$", Err(LONE));
        check("${NONE:-a$b}", Err(LONE));
        check("${BYTES}", Err("the variable BYTES holds bytes that are no UTF-8"));
        check("$ ${HOME", Err(&format!("{LONE} | \"${{HOME\" has no closing brace")));
        for body in ["", "1A", "A-b", "A b", ":-x", "A:=b", "é"] {
            let wrong = fill(&format!("${{{body}}}"), &env).unwrap_err();
            assert!(wrong[0].contains("is no variable"), "{body}: {wrong:?}");
        }
        check(
            "${A}${B}",
            Err("the variable A is not set: set it, or give a default: \"${A:-default}\" | \
                 the variable B is not set: set it, or give a default: \"${B:-default}\""),
        );
    }
}
