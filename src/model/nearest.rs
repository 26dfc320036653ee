//! What a person probably meant by a word that nobody knows.

/// The one of `allowed` that was probably meant by `written`; none if all are far from it.
pub fn nearest<'a>(written: &str, allowed: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let (edits, word) = allowed.into_iter().map(|word| (edits(written, word), word)).min_by_key(|(edits, _)| *edits)?;
    // A third of the letters may be wrong, but not all of a short word.
    (edits <= (word.len() / 3).max(1) && edits < word.len().max(written.len())).then_some(word)
}

/// Letters to insert, delete or replace to make one word of the other (Levenshtein's distance).
fn edits(a: &str, b: &str) -> usize {
    // No key is nearly as long; without a bound a file could make this slow.
    if a.len() > 64 {
        return usize::MAX;
    }
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_suggested_and_a_far_one_is_not() {
        let allowed = ["roll_bytes", "roll_age", "path", "id"];
        assert_eq!(nearest("rollbytes", allowed), Some("roll_bytes"));
        assert_eq!(nearest("roll_agee", allowed), Some("roll_age"));
        assert_eq!(nearest("pth", allowed), Some("path"));
        assert_eq!(nearest("size", allowed), None);
        assert_eq!(nearest("u", ["t"]), None);
        assert_eq!(nearest("tt", ["t"]), Some("t"));
        assert_eq!(nearest("", ["t", ""]), None);
        assert_eq!(nearest(&"x".repeat(10_000), allowed), None);
    }

    #[test]
    fn edits_are_counted_as_levenshtein_did() {
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(edits("abc", ""), 3);
        assert_eq!(edits("naïve", "naive"), 1);
    }
}
