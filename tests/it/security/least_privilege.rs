//! The role of `deploy/least-privilege.sql`.

use sqlx::{Connection as _, PgConnection};

use testbed::postgres::plain_user;
use testbed::scene::Scene;
use testbed::workload::{Workload, booking};

use crate::adoption::OLD_TABLE;

/// Statements that only the owner may run.
const REFUSED: [&str; 4] =
    ["delete from TABLE", "truncate TABLE", "alter table TABLE add more text", "drop table TABLE"];

#[tokio::test]
async fn the_role_of_the_script_can_do_what_the_service_and_its_commands_do_and_no_more() {
    let own = Scene::new(2).await;
    let adopted = Scene::without_tables(2).await;
    adopted.execute(OLD_TABLE).await;
    adopted.migrate();
    // `verify` finds the rows of the Python service: no record explains them.
    for (owner, verified) in [(own, 0), (adopted, 1)] {
        let (_, url) = plain_user(&owner.database).await;
        // As the owner, `owner` looks. As the role, `scene` acts.
        let scene = owner.clone().with_database(url).with("STARTUP_TIMEOUT", "0s");
        let mut workload = Workload::mixed("mine", 200, 2);
        workload.expected.booking_ids.extend(owner.booking_ids().await);
        let mut service = scene.start();
        scene.send(&workload.records).await;
        owner.assert_exact(&workload).await;

        // Dead letters: correct, requeue, discard.
        let letters = scene.lines("select id::text from dead_letters order by id limit 2").await;
        let [corrected, discarded] = letters.as_slice() else { panic!("two letters: {letters:?}") };
        scene
            .execute(&format!(
                "select dead_letters_correct('{corrected}', convert_to('{}', 'UTF8'));
                 select dead_letters_requeue('{{{corrected}}}');
                 select dead_letters_discard('{{{discarded}}}', 'a test')",
                booking("corrected", "1")
            ))
            .await;
        let status =
            format!("select status from dead_letters_readable where id in ('{corrected}', '{discarded}') order by 1");
        scene.wait_until_lines(&status, &["discarded", "resolved"]).await;
        scene.command("dead-letters list");
        scene.command(&format!("dead-letters show {corrected}"));
        assert_eq!(scene.finish("verify").0, verified);

        // Positions: set, and resume behind a gap.
        scene.command("offsets set --partition 0 --to earliest");
        scene.wait_until_read().await;
        service.stop();
        scene.send(&Workload::bookings("deleted", 10, 2).records).await;
        scene.topic.delete_records(0, scene.topic.ends()[&0] - 1).await;
        service.start_again();
        scene.wait_until_halted(0).await;
        scene.command("offsets resume --all");
        scene.wait_until_read().await;
        scene.command("offsets list");
        service.stop();

        let mut session = PgConnection::connect(&scene.database).await.unwrap();
        for table in ["booking_history", "consumer_offsets", "dead_letters", "dead_letter_attempts", "offset_gaps"] {
            for statement in REFUSED {
                let error = sqlx::raw_sql(sqlx::AssertSqlSafe(statement.replace("TABLE", table)));
                let error = error.execute(&mut session).await.unwrap_err();
                let code = error.as_database_error().and_then(|error| error.code().map(std::borrow::Cow::into_owned));
                assert_eq!(code.as_deref(), Some("42501"), "{statement}, {table}: {error}");
            }
        }
        let update = sqlx::query("update booking_history set price = 0").execute(&mut session).await;
        assert!(update.unwrap_err().to_string().contains("permission denied"));
    }
}
