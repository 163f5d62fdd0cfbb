//! Runs the commands of samples in a scene, and compares their output with the page.

use std::fmt::Write as _;
use std::process::Command;

use testbed::pages::{self, Sample};
use testbed::quoted;
use testbed::scene::Scene;
use testbed::service::{Service, program};

/// The names in the samples. In a run, the names of the scene replace them.
const TOPIC: &str = "booking-events";
const GROUP: &str = "booking-history-service";
const HOST: &str = " app-1/";

/// Types the commands of a page into a shell, as a reader does.
pub struct Walk {
    pub scene: Scene,
    page: &'static str,
    /// This machine, as the owner of a partition in a table.
    host: String,
    /// Ids in the page, each with the id of the scene that replaces it.
    ids: Vec<(String, String)>,
}

impl Walk {
    pub fn new(page: &'static str, scene: Scene) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        Self { scene, page, host: format!(" {}/", host.trim()), ids: Vec::new() }
    }

    /// The same scene and another page.
    pub fn turn_to(&mut self, page: &'static str) {
        self.page = page;
    }

    /// Runs the commands of a sample, or the statement above it, and compares what they print.
    pub async fn run(&mut self, name: &str) {
        self.run_again(name, name).await;
    }

    /// Runs the commands of the sample `first` again, and compares their output with the sample `name`.
    pub async fn run_again(&mut self, first: &str, name: &str) {
        let sample = pages::sample(self.page, first);
        // In a table of psql, a name of another length would change the columns.
        self.scene
            .execute(
                "do $$ begin if to_regclass('offset_gaps') is not null then
                     update consumer_offsets set owner = regexp_replace(owner, '^.*/', 'app-1/');
                     update offset_gaps set acknowledged_by = 'postgres on app-1' where acknowledged_by is not null;
                 end if; end $$",
            )
            .await;
        let printed = self.printed(&sample);
        for (known, new) in ids(&pages::sample(self.page, name).lines).into_iter().zip(ids(&printed)) {
            if !self.ids.iter().any(|(bound, _)| *bound == known) {
                self.ids.push((known, new));
            }
        }
        self.compare(name, &printed);
    }

    /// Each line of a sample was logged by one of these.
    pub fn logged(&self, name: &str, services: &[&Service]) {
        let lines: Vec<String> = services.iter().flat_map(|service| service.lines()).collect();
        self.compare(name, &lines);
    }

    /// Sends the request of a sample, and compares the response. For metrics, the sample shows a part.
    pub fn get(&self, name: &str, service: &Service) {
        let sample = pages::sample(self.page, name);
        let [request, shown @ ..] = sample.lines.as_slice() else { panic!("{name} is empty") };
        let path = request.strip_prefix("$ curl -s localhost:8080").unwrap();
        let body = service.get(path).body;
        let series = |line: &str| line.rsplit_once(' ').map(|(series, _)| series.to_owned());
        let answer = body
            .lines()
            .filter(|line| path != "/metrics" || shown.iter().any(|shown| series(shown) == series(&self.masked(line))));
        let mut printed = vec![request.clone()];
        printed.extend(answer.map(str::to_owned));
        self.compare(name, &printed);
    }

    fn compare(&self, name: &str, printed: &[String]) {
        let printed: Vec<String> = printed.iter().map(|line| self.masked(line)).collect();
        pages::check(self.page, name, &printed);
    }

    /// The line with the names of the page.
    fn masked(&self, line: &str) -> String {
        let line = line.replace(&self.scene.topic.name, TOPIC).replace(&self.scene.group, GROUP);
        let line = line.replace(&self.host, HOST);
        self.ids.iter().fold(line, |line, (known, new)| line.replace(new, known))
    }

    /// The command with the names of the scene.
    fn unmasked(&self, command: &str) -> String {
        let command = command.replace(TOPIC, &self.scene.topic.name).replace(GROUP, &self.scene.group);
        self.ids.iter().fold(command, |command, (known, new)| command.replace(known, new))
    }

    /// Runs the commands of a sample. Returns each command with its output.
    fn printed(&self, sample: &Sample) -> Vec<String> {
        const MARK: &str = "@@";
        let commands = commands(sample);
        let program = program();
        let (directory, _) = program.rsplit_once('/').unwrap();
        let mut script = format!("exec 2>&1; export PATH={}:$PATH\n", quoted(directory));
        for (_, command) in &commands {
            // The mark between two commands keeps the exit status for `echo $?`.
            let command = self.unmasked(command);
            writeln!(script, "status=$?; echo {MARK}; (exit $status)\n{command}").unwrap();
        }
        let empty = tempfile::tempdir().unwrap();
        let output = Command::new("sh")
            .args(["-c", &script])
            .current_dir(&empty)
            .envs(&self.scene.environment)
            .envs([("PGTZ", "UTC"), ("PSQLRC", "/dev/null")])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let mut printed = Vec::new();
        for ((lines, _), text) in commands.iter().zip(text.split(&format!("{MARK}\n")).skip(1)) {
            printed.extend(lines.iter().cloned());
            printed.extend(text.lines().map(str::to_owned));
        }
        while printed.pop_if(|line| line.is_empty()).is_some() {}
        printed
    }
}

/// The lines of each command as the sample shows them, and the command for a shell.
fn commands(sample: &Sample) -> Vec<(Vec<String>, String)> {
    let psql = |statement: &str| format!("psql \"$DATABASE_URL\" -c {}", quoted(statement));
    if let Some(sql) = &sample.sql {
        return vec![(Vec::new(), psql(sql))];
    }
    let mut commands = Vec::new();
    let mut lines = sample.lines.iter();
    while let Some(line) = lines.next() {
        let mut shown = vec![line.clone()];
        if let Some(command) = line.strip_prefix("$ ") {
            // The statements below are the input of an interactive psql.
            let command = if command == "psql \"$DATABASE_URL\"" { ":" } else { command };
            commands.push((shown, command.to_owned()));
        } else if let Some(statement) = line.strip_prefix("=# ") {
            let mut statement = statement.to_owned();
            while !statement.ends_with(';') {
                let next = lines.next().unwrap();
                shown.push(next.clone());
                statement = format!("{statement}\n{next}");
            }
            commands.push((shown, psql(&statement)));
        }
    }
    commands
}

fn ids(lines: &[String]) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    for id in lines.iter().flat_map(|line| pages::ids(line)) {
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    ids
}
