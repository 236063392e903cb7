//! Drawings as SVG: panels of one width that stand beside each other in a file, or flow in a page.

use std::fmt::Write;

/// Every panel is so wide: on a telephone it is shown about as large as it is drawn.
pub const WIDTH: f64 = 440.0;

/// Colours and fonts, light and dark; the page has them too.
pub const STYLE: &str = include_str!("plots.css");

const GAP: f64 = 36.0;
const MARGIN: f64 = 16.0;

/// Where a text ends up relative to its place.
#[derive(Clone, Copy)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// One drawing.
pub struct Panel {
    title: String,
    about: String,
    height: f64,
    body: String,
}

impl Panel {
    /// An empty one. `about` says in words what is seen, for those who cannot see it.
    pub fn new(title: &str, unit: &str, about: &str, height: f64) -> Panel {
        let (title, about) = (title.to_owned(), about.to_owned());
        let mut panel = Panel { title, about, height, body: String::new() };
        panel.text((0.0, 15.0), Anchor::Start, "title", &panel.title.clone());
        panel.text((0.0, 32.0), Anchor::Start, "muted", unit);
        panel
    }

    /// Text whose base line begins, has its middle or ends at a place.
    pub fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, class: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escape(text);
        self.add(format!(
            r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" class="{class}">{text}</text>"#
        ));
    }

    /// A rectangle by its corners.
    pub fn rect(&mut self, (x0, y0): (f64, f64), (x1, y1): (f64, f64), class: &str) {
        let (width, height) = ((x1 - x0).max(0.5), y1 - y0);
        self.add(format!(
            r#"<rect x="{x0:.1}" y="{y0:.1}" width="{width:.1}" height="{height:.1}" class="{class}"/>"#
        ));
    }

    /// A straight line.
    pub fn line(&mut self, (x0, y0): (f64, f64), (x1, y1): (f64, f64), class: &str) {
        self.add(format!(
            r#"<line x1="{x0:.1}" y1="{y0:.1}" x2="{x1:.1}" y2="{y1:.1}" class="{class}"/>"#
        ));
    }

    /// Lines from place to place.
    pub fn path(&mut self, places: &[(f64, f64)], class: &str) {
        let places: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        self.add(format!(r#"<polyline points="{}" class="{class}"/>"#, places.join(" ")));
    }

    /// A dot.
    pub fn dot(&mut self, (x, y): (f64, f64), radius: f64, class: &str) {
        self.add(format!(r#"<circle cx="{x:.1}" cy="{y:.1}" r="{radius:.1}" class="{class}"/>"#));
    }

    fn add(&mut self, element: String) {
        self.body += &element;
        self.body.push('\n');
    }

    /// For a page that has the style; `id` is its alone there.
    pub fn inline(&self, id: &str) -> String {
        let (title, about, height) = (escape(&self.title), escape(&self.about), self.height);
        format!(
            "<svg class=\"plot\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
             aria-labelledby=\"{id}-t {id}-d\">\n<title id=\"{id}-t\">{title}</title>\n\
             <desc id=\"{id}-d\">{about}</desc>\n{}</svg>\n",
            self.body
        )
    }
}

/// A file of its own: the panels two abreast.
pub fn document(title: &str, about: &str, panels: &[Panel]) -> String {
    let columns = panels.len().clamp(1, 2);
    let width = columns as f64 * (WIDTH + GAP) - GAP + 2.0 * MARGIN;
    let (mut y, mut body) = (MARGIN, String::new());
    for row in panels.chunks(columns) {
        for (column, panel) in row.iter().enumerate() {
            let x = MARGIN + column as f64 * (WIDTH + GAP);
            let (title, about) = (escape(&panel.title), escape(&panel.about));
            let _ = writeln!(
                body,
                "<g transform=\"translate({x} {y})\" role=\"img\" aria-label=\"{title}\">\n\
                 <desc>{about}</desc>\n{}</g>",
                panel.body
            );
        }
        y += row.iter().map(|panel| panel.height).fold(0.0, f64::max) + GAP;
    }
    let height = y - GAP + MARGIN;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"plot\" width=\"{width}\" \
         height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
         aria-labelledby=\"t d\">\n<title id=\"t\">{}</title>\n<desc id=\"d\">{}</desc>\n\
         <style>{STYLE}</style>\n<rect class=\"paper\" width=\"100%\" height=\"100%\"/>\n{body}</svg>\n",
        escape(title),
        escape(about),
    )
}

/// For text and for attributes in quotes, in XML and in HTML.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // XML has no way to say them.
            c if c < ' ' && !matches!(c, '\n' | '\t') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// How a value becomes a place, and which values are named beside it.
pub struct Axis {
    from: f64,
    to: f64,
    is_log: bool,
    /// The values that are named; the first and the last are the ends of the axis, but for a
    /// logarithmic one, which ends with its data.
    pub ticks: Vec<f64>,
}

impl Axis {
    /// From nothing to at least `max`.
    pub fn linear(max: f64) -> Axis {
        let max = if max.is_finite() && max > 0.0 { max } else { 1.0 };
        let rough = max / 4.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
        let step = step.into_iter().find(|step| *step >= rough * 0.999).unwrap_or(max);
        let count = (max / step * 0.999).ceil().max(1.0) as usize;
        let ticks: Vec<f64> = (0..=count).map(|tick| tick as f64 * step).collect();
        Axis { from: 0.0, to: count as f64 * step, is_log: false, ticks }
    }

    /// From a little below `min` to a little above `max`, with at most so many ticks if they can be
    /// chosen.
    pub fn log(min: f64, max: f64, most: usize) -> Axis {
        let sound = |value: f64| value.is_finite() && value > 0.0;
        let (min, max) =
            if sound(min) && sound(max) && min <= max { (min, max) } else { (1.0, 10.0) };
        let (from, to) = (min / 1.15, max * 1.15);
        let decades = from.log10().floor() as i32..=to.log10().ceil() as i32;
        let every = |steps: &[f64]| -> Vec<f64> {
            let all = decades
                .clone()
                .flat_map(|decade| steps.iter().map(move |s| s * 10_f64.powi(decade)));
            all.filter(|tick| (from..=to).contains(tick)).collect()
        };
        let all: [&[f64]; 3] = [&[1.0, 2.0, 5.0], &[1.0, 3.0], &[1.0]];
        let fitting = all.into_iter().map(every).find(|ticks| ticks.len() <= most);
        let ticks = match fitting.unwrap_or_else(|| every(&[1.0])) {
            few if few.len() < 2 => every(&[1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]),
            ticks => ticks,
        };
        Axis { from, to, is_log: true, ticks }
    }

    /// Where a value is between 0 and 1.
    pub fn at(&self, value: f64) -> f64 {
        let share = match self.is_log {
            true => (value.max(self.from) / self.from).ln() / (self.to / self.from).ln(),
            false => (value - self.from) / (self.to - self.from),
        };
        if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }
    }
}

/// A value of an axis in as few digits as it has.
pub fn plain(value: f64) -> String {
    let text = format!("{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_is_taken_for_markup() {
        let text = escape("<b a=\"1\" c='2'>&\u{0}\n</b>");
        assert_eq!(text, "&lt;b a=&quot;1&quot; c=&#39;2&#39;&gt;&amp;\u{fffd}\n&lt;/b&gt;");
    }

    #[test]
    fn a_linear_axis_begins_at_nothing_and_has_round_steps() {
        assert_eq!(Axis::linear(9.3).ticks, [0.0, 5.0, 10.0]);
        assert_eq!(Axis::linear(4.0).ticks, [0.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!(Axis::linear(33.0).ticks, [0.0, 10.0, 20.0, 30.0, 40.0]);
        for max in [1e-9, 0.07, 1.0, 1234.0, 9e9] {
            let axis = Axis::linear(max);
            assert!(axis.to >= max * 0.999 && (3..=6).contains(&axis.ticks.len()), "{max}");
            assert!(axis.at(max) > 0.5 && axis.at(0.0) == 0.0);
        }
        assert_eq!(Axis::linear(f64::NAN).ticks, Axis::linear(1.0).ticks);
    }

    #[test]
    fn a_logarithmic_axis_has_few_ticks_within_its_ends() {
        assert_eq!(Axis::log(9.0, 120.0, 7).ticks, [10.0, 20.0, 50.0, 100.0]);
        assert_eq!(Axis::log(1.0, 1e5, 7).ticks.len(), 6);
        assert_eq!(Axis::log(9.0, 120.0, 3).ticks, [10.0, 30.0, 100.0]);
        let axis = Axis::log(3.0, 3000.0, 7);
        assert!(axis.at(3.0) > 0.0 && axis.at(3000.0) < 1.0 && axis.at(0.0) == 0.0);
        assert!((axis.at(100.0) - axis.at(10.0) - axis.at(1000.0) + axis.at(100.0)).abs() < 1e-9);
        assert_eq!(Axis::log(0.0, 5.0, 7).ticks, Axis::log(1.0, 10.0, 7).ticks);
        assert_eq!([plain(0.5), plain(20.0), plain(0.0), plain(1e4)], ["0.5", "20", "0", "10000"]);
    }
}
