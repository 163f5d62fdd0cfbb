//! The picture of the dashboard in the documentation: where each panel stands, and its title.

use std::fmt::Write as _;

use serde_json::Value;
use testbed::pages;

use super::DASHBOARD;

/// Pixels of one unit of the grid, which has 24 columns.
const COLUMN: u64 = 40;
const ROW: u64 = 18;

#[test]
fn the_picture_of_the_dashboard_is_current() {
    let dashboard: Value = serde_json::from_str(&pages::read(DASHBOARD)).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    pages::check_file("docs/operate/dashboard.svg", &svg(panels));
}

fn svg(panels: &[Value]) -> String {
    let place = |panel: &Value, side: &str| panel["gridPos"][side].as_u64().unwrap();
    let height = panels.iter().map(|panel| place(panel, "y") + place(panel, "h")).max().unwrap() * ROW;
    let width = 24 * COLUMN;
    let mut svg = format!(
        "<svg width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" xmlns=\"http://www.w3.org/2000/svg\" \
         font-family=\"sans-serif\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"#f4f5f5\"/>\n"
    );
    for panel in panels {
        let (left, top) = (place(panel, "x") * COLUMN, place(panel, "y") * ROW);
        let (width, height) = (place(panel, "w") * COLUMN, place(panel, "h") * ROW);
        let title = panel["title"].as_str().unwrap();
        let kind = panel["type"].as_str().unwrap();
        writeln!(svg, "<g transform=\"translate({left} {top})\">").unwrap();
        if kind == "row" {
            writeln!(svg, "<text x=\"6\" y=\"14\" font-size=\"13\" font-weight=\"bold\">{title}</text>").unwrap();
        } else {
            let (inner_width, inner_height) = (width - 4, height - 4);
            writeln!(
                svg,
                "<rect x=\"2\" y=\"2\" width=\"{inner_width}\" height=\"{inner_height}\" fill=\"#fff\" stroke=\"#c7c9cc\"/>\n\
                 <text x=\"10\" y=\"20\" font-size=\"13\">{title}</text>\n{}",
                content(kind, width, height)
            )
            .unwrap();
        }
        writeln!(svg, "</g>").unwrap();
    }
    svg.push_str("</svg>\n");
    svg
}

/// A sign for what a panel shows.
fn content(kind: &str, width: u64, height: u64) -> String {
    let (right, bottom, middle) = (width - 12, height - 14, height / 2 + 8);
    match kind {
        "stat" => format!(
            "<rect x=\"10\" y=\"28\" width=\"{}\" height=\"{}\" fill=\"#73bf69\"/>\n\
             <text x=\"{}\" y=\"{}\" font-size=\"22\" fill=\"#fff\" text-anchor=\"middle\">0</text>",
            width - 20,
            height - 38,
            width / 2,
            height / 2 + 17
        ),
        "timeseries" => format!(
            "<path d=\"M12 30V{bottom}H{right}\" fill=\"none\" stroke=\"#c7c9cc\"/>\n\
             <path d=\"M12 {middle}L{} {}L{} {middle}L{} {}L{right} {}\" fill=\"none\" stroke=\"#3274d9\"/>",
            width / 4,
            middle - 12,
            width / 2,
            width * 3 / 4,
            middle - 22,
            middle - 8
        ),
        "state-timeline" => format!(
            "<rect x=\"12\" y=\"34\" width=\"{}\" height=\"14\" fill=\"#73bf69\"/>\n\
             <rect x=\"12\" y=\"54\" width=\"{}\" height=\"14\" fill=\"#73bf69\"/>",
            width - 24,
            width - 24
        ),
        _ => format!("<path d=\"M12 32H{right}M12 50H{right}M12 68H{right}\" fill=\"none\" stroke=\"#c7c9cc\"/>"),
    }
}
