//! The page: figures at the top, plots, every table, and what it was measured on. All of it is in
//! the one file.

use super::Part;
use super::headline::Headline;
use super::machine::Machine;
use super::plots::Plot;
use super::svg::{self, escape};
use crate::peers::{Kind, kinds};
use crate::table::{Stats, Table};

const STYLE: &str = include_str!("page.css");

/// What the page is made of.
pub struct Page<'a> {
    pub parts: &'a [Part],
    pub plots: &'a [Plot],
    pub headlines: &'a [Headline],
    pub machine: &'a Machine,
    /// What a reader must know before the figures.
    pub warnings: &'a [String],
}

impl Page<'_> {
    /// The whole file.
    pub fn html(&self) -> String {
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
             <meta name=\"color-scheme\" content=\"light dark\"/>\n\
             <title>Pangea, measured</title>\n<style>{}{STYLE}</style>\n</head>\n<body>\n\
             {}<main>\n{}{}{}{}</main>\n</body>\n</html>\n",
            svg::STYLE,
            self.head(),
            self.cards(),
            self.figures(),
            self.tables(),
            self.machine(),
        )
    }

    fn head(&self) -> String {
        let fact = |name| escape(self.machine.fact(name));
        let links = self.parts.iter().filter(|part| !part.kept.tables.is_empty());
        let links = links.map(|part| format!("<a href=\"#{0}\">{0}</a>\n", escape(part.name)));
        let remarks = self.parts.iter().flat_map(|part| &part.kept.remarks);
        let failed = self.parts.iter().filter_map(|part| {
            let why = part.outcome.as_ref().err()?;
            Some(format!("{} failed: {why}", part.name))
        });
        let warnings = self.warnings.iter().cloned().chain(failed).chain(remarks.cloned());
        let warnings: Vec<String> =
            warnings.map(|warning| format!("<li>{}</li>\n", escape(&warning))).collect();
        let warnings = match warnings.is_empty() {
            true => String::new(),
            false => format!(
                "<section class=\"warning\" aria-label=\"What to know first\">\n<ul>\n{}</ul>\n\
                 </section>\n",
                warnings.concat()
            ),
        };
        format!(
            "<header>\n<h1>Pangea, measured</h1>\n<p class=\"lead\">{}, {} cores. {}. \
             Pangea {}, commit {}.</p>\n<p class=\"note\">Every figure stands beside its limit, measured in \
             the same run. Whoever is compared takes turns, so that what changes in the machine \
             meanwhile meets all alike; a figure is the median of its repeats, with the least and \
             the greatest beside it.</p>\n<nav aria-label=\"Contents\">\n<a href=\"#plots\">plots</a>\n\
             {}<a href=\"#machine\">machine</a>\n</nav>\n{warnings}</header>\n",
            fact("Processor"),
            fact("Cores"),
            fact("Date"),
            fact("Pangea"),
            fact("Commit"),
            links.collect::<String>(),
        )
    }

    fn cards(&self) -> String {
        let cards: String = self.headlines.iter().map(card).collect();
        match cards.is_empty() {
            true => String::new(),
            false => format!("<ul class=\"cards\">\n{cards}</ul>\n"),
        }
    }

    fn figures(&self) -> String {
        let figure = |plot: &Plot| {
            let panels = plot.panels.iter().enumerate();
            let panels: String =
                panels.map(|(at, panel)| panel.inline(&format!("{}{at}", plot.name))).collect();
            let (title, caption) = (escape(plot.title), escape(plot.caption));
            let inside = match panels.is_empty() {
                true => "<p class=\"note\">Nothing of it was measured.</p>\n".to_owned(),
                false => format!("<div class=\"panels\">\n{panels}</div>\n"),
            };
            let class = if plot.panels.len() > 1 { " class=\"wide\"" } else { "" };
            format!(
                "<figure{class} id=\"plot-{}\">\n<h2>{title}</h2>\n\
                 <figcaption><p>{caption}</p></figcaption>\n{inside}</figure>\n",
                plot.name
            )
        };
        let figures: String = self.plots.iter().map(figure).collect();
        format!("<section id=\"plots\" class=\"figures\">\n{figures}</section>\n")
    }

    fn tables(&self) -> String {
        let part = |part: &Part| {
            let (name, about) = (escape(part.name), escape(part.about));
            let took = part.took.as_secs();
            let tables: String = part.kept.tables.iter().map(table).collect();
            let failed = part
                .outcome
                .as_ref()
                .err()
                .map(|why| format!("<p class=\"warning\">Failed: {}</p>\n", escape(why)));
            format!(
                "<section id=\"{name}\">\n<h2>{name}</h2>\n<p class=\"note\">{about}. Took {} min \
                 {} s.</p>\n{}{tables}</section>\n",
                took / 60,
                took % 60,
                failed.unwrap_or_default(),
            )
        };
        self.parts.iter().map(part).collect()
    }

    fn machine(&self) -> String {
        let fact = |(name, value): &(&str, String)| {
            format!("<dt>{}</dt>\n<dd>{}</dd>\n", escape(name), escape(value))
        };
        let facts: String = self.machine.facts.iter().map(fact).collect();
        format!(
            "<section id=\"machine\">\n<h2>Machine and versions</h2>\n<dl>\n{facts}</dl>\n\
             <p class=\"note\">The command, typed again at the same commit, repeats all of it. Every \
             row of this page is an object in rows.jsonl, and every plot a file beside it.</p>\n\
             </section>\n"
        )
    }
}

fn card(headline: &Headline) -> String {
    let Headline { what, figure, unit, beside, share } = headline;
    let beside: Vec<String> = beside
        .lines()
        .map(|line| format!("<span class=\"beside\">{}</span>\n", escape(line)))
        .collect();
    let meter = share.map(|share| {
        let percent = 100.0 * share.clamp(0.0, 1.0);
        format!("<span class=\"meter\"><span style=\"width:{percent:.0}%\"></span></span>\n")
    });
    format!(
        "<li>\n<span class=\"what\">{}</span>\n<span class=\"figure\">{} <span \
         class=\"unit\">{}</span></span>\n{}{}</li>\n",
        escape(what),
        escape(figure),
        escape(unit),
        meter.unwrap_or_default(),
        beside.concat(),
    )
}

fn table(table: &Table) -> String {
    // The columns that hold figures stand right, and the rest left.
    let is_figure = |at: usize| {
        let mut cells = table.rows().iter().map(|row| row[at].as_str());
        at > 0 && cells.any(|cell| cell == "-" || Stats::read(cell).is_some())
    };
    let class = |at: usize| if is_figure(at) { "" } else { " class=\"word\"" };
    let heads = table.columns().iter().enumerate();
    let heads =
        heads.map(|(at, head)| format!("<th scope=\"col\"{}>{}</th>", class(at), escape(head)));
    let rows = table.rows().iter().map(|row| {
        let cells = row.iter().enumerate().map(|(at, text)| match at {
            0 => format!("<th scope=\"row\" class=\"word\">{}</th>", escape(text)),
            _ => format!("<td{}>{}</td>", class(at), cell(text)),
        });
        format!("<tr{}>{}</tr>\n", row_class(&row[0]), cells.collect::<String>())
    });
    format!(
        "<h3>{}</h3>\n<div class=\"scroll\" tabindex=\"0\">\n<table>\n<thead><tr>{}</tr></thead>\n\
         <tbody>\n{}</tbody>\n</table>\n</div>\n",
        escape(table.title().trim()),
        heads.collect::<String>(),
        rows.collect::<String>(),
    )
}

/// A median, and its ends unless they are the same.
fn cell(text: &str) -> String {
    match (text.split_once(" ["), Stats::read(text)) {
        (Some((median, _)), Some(stats)) if stats.min == stats.max => escape(median),
        (Some((median, ends)), Some(_)) => {
            let ends = ends.trim_end_matches(']').replacen('-', "\u{2013}", 1);
            format!("{}<span class=\"ends\">{}</span>", escape(median), escape(&ends))
        }
        _ => escape(text),
    }
}

fn row_class(name: &str) -> &'static str {
    let kind = kinds().find(|(known, _)| *known == name).map(|(_, kind)| kind);
    match kind {
        Some(Kind::Ours) => " class=\"ours\"",
        Some(Kind::Limit) => " class=\"limit\"",
        None if name.contains("limit") => " class=\"limit\"",
        _ => "",
    }
}
