import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.BufferedWriter;
import java.io.InputStreamReader;
import java.io.OutputStreamWriter;
import java.nio.charset.StandardCharsets;
import software.amazon.event.ruler.Machine;

/** What Event Ruler says: a line {"rule": "…", "event": "…"} in, `true`, `false` or `error …` out. */
public class EventRuler {
  public static void main(String[] args) throws Exception {
    ObjectMapper mapper = new ObjectMapper();
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    BufferedWriter out = new BufferedWriter(new OutputStreamWriter(System.out, StandardCharsets.UTF_8));
    for (String line = in.readLine(); line != null; line = in.readLine()) {
      JsonNode asked = mapper.readTree(line);
      String answer;
      try {
        Machine machine = new Machine();
        machine.addRule("rule", asked.get("rule").asText());
        answer = String.valueOf(!machine.rulesForJSONEvent(asked.get("event").asText()).isEmpty());
      } catch (Exception error) {
        answer = "error " + error.getMessage().replace('\n', ' ');
      }
      out.write(answer);
      out.newLine();
    }
    out.flush();
  }
}
