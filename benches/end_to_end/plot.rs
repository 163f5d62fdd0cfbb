//! The plot of a report: ratios of rates, and latencies by rate.

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::report::{Figure, Report, Row, Spread};

/// It is read on light and dark pages, so the plot has its own background.
const BACKGROUND: RGBColor = WHITE;
const BAR: RGBColor = RGBColor(86, 146, 206);
const LATENCIES: [(&str, RGBColor); 4] = [
    ("p50", RGBColor(86, 146, 206)),
    ("p99", RGBColor(60, 150, 90)),
    ("p99.9", RGBColor(220, 140, 40)),
    ("max", RGBColor(190, 60, 60)),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// The same report always gives the same text.
pub fn svg(report: &Report) -> String {
    let ratios: Vec<(String, Spread)> = report.rows.iter().filter_map(ratio).collect();
    let latencies: Vec<&Row> = report.rows.iter().filter(|row| row.figure("p50").is_some()).collect();
    let height = 110 + 24 * u32::try_from(ratios.len().max(12)).unwrap();
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, (960, height)).into_drawing_area();
        root.fill(&BACKGROUND).unwrap();
        let (left, right) = root.split_horizontally(580);
        if !ratios.is_empty() {
            draw_ratios(&left, &ratios);
        }
        if latencies.len() > 1 {
            draw_latencies(&right, &latencies);
        }
        root.present().unwrap();
    }
    text
}

fn ratio(row: &Row) -> Option<(String, Spread)> {
    let figure = row.figures.iter().find(|figure| figure.name.starts_with("times "))?;
    Some((format!("{} / {}", row.name, figure.name.trim_start_matches("times ")), figure.spread()))
}

fn draw_ratios(area: &Area<'_>, ratios: &[(String, Spread)]) {
    let count = i32::try_from(ratios.len()).unwrap();
    let most = ratios.iter().map(|(_, spread)| spread.most).fold(1.0, f64::max) * 1.05;
    let mut chart = ChartBuilder::on(area)
        .caption("records/s as a ratio (bar: median; line: least to most)", ("sans-serif", 15))
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(210)
        .build_cartesian_2d(0.0..most, (0..count - 1).into_segmented())
        .unwrap();
    // The first scenario is at the top.
    let at = |index: i32| count - 1 - index;
    let name = |place: &SegmentValue<i32>| match place {
        SegmentValue::CenterOf(index) | SegmentValue::Exact(index) => {
            usize::try_from(at(*index)).ok().and_then(|index| ratios.get(index)).map_or("", |(name, _)| name).to_owned()
        }
        SegmentValue::Last => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .x_max_light_lines(1)
        .y_labels(ratios.len())
        .y_label_formatter(&name)
        .label_style(("sans-serif", 13))
        .x_desc("times the base (behind the slash)")
        .draw()
        .unwrap();
    for (index, (_, spread)) in (0..).zip(ratios) {
        let from = SegmentValue::Exact(at(index));
        let to = if index == 0 { SegmentValue::Last } else { SegmentValue::Exact(at(index - 1)) };
        let mut bar = Rectangle::new([(0.0, from), (spread.median, to)], BAR.filled());
        bar.set_margin(4, 4, 0, 0);
        let centre = || SegmentValue::CenterOf(at(index));
        let line = PathElement::new([(spread.least, centre()), (spread.most, centre())], BLACK);
        chart.draw_series([bar]).unwrap();
        chart.draw_series([line]).unwrap();
    }
    let one = [(1.0, SegmentValue::Exact(0)), (1.0, SegmentValue::Last)];
    chart.draw_series([PathElement::new(one, BLACK.mix(0.5))]).unwrap();
}

fn draw_latencies(area: &Area<'_>, rows: &[&Row]) {
    let median = |row: &Row, name: &str| row.figure(name).map(Figure::spread).map(|spread| spread.median);
    let all = || LATENCIES.iter().flat_map(|(name, _)| rows.iter().filter_map(|row| median(row, name)));
    let (least, most) = (all().fold(f64::MAX, f64::min), all().fold(0.0, f64::max));
    let mut chart = ChartBuilder::on(area)
        .caption("ms from the planned time to the commit", ("sans-serif", 15))
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(50)
        .build_cartesian_2d((0..rows.len() - 1).into_segmented(), (least * 0.7..most * 1.5).log_scale())
        .unwrap();
    let name = |place: &SegmentValue<usize>| match place {
        SegmentValue::CenterOf(index) | SegmentValue::Exact(index) => {
            rows.get(*index).map_or(String::new(), |row| row.what.clone())
        }
        SegmentValue::Last => String::new(),
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(rows.len())
        .x_label_formatter(&name)
        .y_label_formatter(&|value| crate::report::shown(*value))
        .label_style(("sans-serif", 13))
        .y_desc("ms")
        .draw()
        .unwrap();
    for (name, colour) in LATENCIES {
        let points: Vec<_> = rows
            .iter()
            .enumerate()
            .filter_map(|(index, row)| Some((SegmentValue::CenterOf(index), median(row, name)?)))
            .collect();
        let dots = points.iter().map(|point| Circle::new(point.clone(), 4, colour.filled()));
        chart.draw_series(dots).unwrap();
        let line = PathElement::new(points, colour);
        chart
            .draw_series([line])
            .unwrap()
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(BACKGROUND)
        .border_style(BLACK.mix(0.3))
        .label_font(("sans-serif", 13))
        .draw()
        .unwrap();
}
