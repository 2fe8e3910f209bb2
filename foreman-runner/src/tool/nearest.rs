//! The lines of a file that look most like what a model was looking for.

/// Lines compared when the nearest one is looked for.
const NEAREST_LINES_MAX: usize = 20_000;
/// Lines shown around the nearest one.
const NEAREST_CONTEXT_LINES: usize = 3;

/// The lines around the one that looks most like the first telling line of `old`, with numbers.
pub(super) fn nearest(text: &str, old: &str) -> Option<String> {
    let wanted = old
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .max_by_key(|line| line.len().min(60))?;
    let lines: Vec<&str> = text.lines().collect();
    let mut best: Option<(usize, usize)> = None;
    for (at, line) in lines.iter().take(NEAREST_LINES_MAX).enumerate() {
        let score = likeness(line.trim(), wanted);
        if best.is_none_or(|(_, high)| score > high) {
            best = Some((at, score));
        }
    }
    let (at, score) = best?;
    if score < 40 {
        return None;
    }
    let first = at.saturating_sub(NEAREST_CONTEXT_LINES);
    let shown: Vec<String> = lines
        .iter()
        .enumerate()
        .skip(first)
        .take(2 * NEAREST_CONTEXT_LINES + 1)
        .map(|(i, line)| format!("{:>6}\t{}", i + 1, crate::text::clip_chars(line, 200)))
        .collect();
    Some(shown.join("\n"))
}

/// 0 to 100: the share of pairs of characters that two lines have in common.
fn likeness(a: &str, b: &str) -> usize {
    if a == b {
        return 100;
    }
    let pairs = |text: &str| -> Vec<(char, char)> {
        let text: Vec<char> = text.chars().take(200).collect();
        let mut pairs: Vec<(char, char)> =
            text.iter().copied().zip(text.iter().copied().skip(1)).collect();
        pairs.sort_unstable();
        pairs
    };
    let (left, right) = (pairs(a), pairs(b));
    if left.is_empty() || right.is_empty() {
        return 0;
    }
    let (mut i, mut j, mut common) = (0, 0, 0);
    while let (Some(x), Some(y)) = (left.get(i), right.get(j)) {
        match x.cmp(y) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => {
                common += 1;
                i += 1;
                j += 1;
            }
        }
    }
    200 * common / (left.len() + right.len())
}
