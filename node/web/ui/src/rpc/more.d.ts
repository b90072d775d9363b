import "./types";
declare module "./types" {
  interface Methods {
    node_getConfig: { params: object; result: { items: Array<{ key: string; value: string; origin: string; about: string; pending: boolean }> } };
    node_runDoctor: { params: object; result: { items: Array<{ number: string; name: string; level: string; what: string; fix: string }>; faults: number; warnings: number } };
  }
}
